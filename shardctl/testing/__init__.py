"""For an application's own tests: which statements scatter, and fleets that last for one test."""
