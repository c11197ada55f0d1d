//! The `console` notifier: one line on standard output.

use std::io::Write as _;
use std::time::Duration;

use super::NotifyError;
use crate::ledger::Body;

/// Writes the notification's line; standard output may be a pipe that nobody reads, so not on the runtime's threads.
pub(super) async fn send(body: &str, within: Duration) -> Result<(), NotifyError> {
    let line = line(body)?;
    let write = tokio::task::spawn_blocking(move || {
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).and_then(|()| out.flush())
    });
    match tokio::time::timeout(within, write).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(error))) => Err(NotifyError::Console(error.to_string())),
        Ok(Err(error)) => Err(NotifyError::Console(error.to_string())),
        Err(_) => Err(NotifyError::Console("nobody reads it".to_owned())),
    }
}

/// When and what, for a person.
fn line(body: &str) -> Result<String, NotifyError> {
    let body: Body = serde_json::from_str(body).map_err(|error| NotifyError::Console(error.to_string()))?;
    Ok(format!("{} {}\n", body.at, body.text))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_notification_is_one_readable_line() {
        let body = r#"{"id":"1","state":"firing","rule":"r","subject":"s","link":"","at":"2026-11-22T07:00:01.000000Z","value":null,"reason":"3 of 3 lost","text":"FIRING r s: 3 of 3 lost"}"#;
        let line = super::line(body).unwrap();
        assert_eq!(line, "2026-11-22T07:00:01.000000Z FIRING r s: 3 of 3 lost\n");
    }
}
