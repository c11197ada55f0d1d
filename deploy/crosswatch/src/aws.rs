//! The one AWS session of the process.

use crosswatch_aws::Session;
use tokio::sync::OnceCell;

/// Loaded when it is first asked for, so that a process that calls no AWS needs no region.
pub(crate) async fn session() -> &'static Session {
    static SESSION: OnceCell<Session> = OnceCell::const_new();
    SESSION.get_or_init(Session::load).await
}
