//! What hosts a Crosswatch process: lifecycle, telemetry, the HTTP listener, retry.
