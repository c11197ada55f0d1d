//! The publisher: observations from the queue, aggregated into metrics.
