//! Pings what is nearer than the link, so that a broken machine can be told from a broken link.

use std::net::SocketAddr;
use std::time::Duration;

use crosswatch_prober::Family;
use crosswatch_shared::evidence::{Control, Part, Said};

use crate::echo::Echo;
use crate::moment::Deadline;
use crate::{Seen, milliseconds};

/// It is asked so often, so long apart.
const TRIES: u32 = 3;
const TRY: Duration = Duration::from_millis(500);

/// Whether this address answers.
pub(crate) fn ping(to: SocketAddr, deadline: Deadline) -> Seen<Control> {
    let mut echo = match Echo::open(Family::of(to.ip())) {
        Ok(echo) => echo,
        Err(why) => return (Part::absent(&why), false),
    };
    let address = to.ip();
    for number in 0..TRIES {
        if deadline.is_past() {
            break;
        }
        // What cannot be sent is lost too.
        let _ = echo.send(to, number, None);
        let until = deadline.or_in(TRY);
        while !until.is_past() {
            if let Some(reply) = echo.hear(until).into_iter().find(|heard| heard.said == Said::Reply) {
                return (Part::Seen(Control { address, rtt_ms: Some(milliseconds(reply.rtt)) }), false);
            }
        }
    }
    (Part::Seen(Control { address, rtt_ms: None }), deadline.is_past())
}
