#!/bin/sh
# The main job on the weather example: four SQLite shards in ./demo, made, migrated, filled and asked.
set -e
cd "$(dirname "$0")/../.."
rm -rf demo

run() {
    printf '\n$ %s\n' "$1"
    sh -c "$1"
}

run 'shardctl init --schemas-only --yes'
run 'shardctl migrate --all-shards --yes 2>/dev/null'
run 'python -m examples.weather.add_rows'
run 'shardctl query "SELECT city, continent FROM weather_locations ORDER BY city DESC LIMIT 3"'
run 'shardctl query "SELECT continent, count(*) AS reports, avg(r.temperature) AS mean
                FROM WeatherLocation l JOIN Report r ON r.location_id = l.id
                GROUP BY continent ORDER BY mean DESC"'
run 'shardctl locate WeatherLocation 1'
