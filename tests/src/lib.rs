//! End-to-end tests, properties and benchmarks of the whole.
