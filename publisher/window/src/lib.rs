//! Windows: observations to datapoints in event time; pure.
