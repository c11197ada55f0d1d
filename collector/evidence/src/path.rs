//! Traces the path: sends all TTLs at once, a little apart, and a few times where nobody answers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crosswatch_prober::Family;
use crosswatch_shared::evidence::{HOPS, Part, Path};
use nix::errno::Errno;

use crate::echo::{Echo, Heard};
use crate::flights::Flights;
use crate::moment::Deadline;
use crate::trace::{Answer, Trace};
use crate::{Protocol, Request, Seen};

/// Who does not answer is asked so often.
const TRIES: u32 = 3;
/// Between two packets: routers send only so many errors a second.
const PACE: Duration = Duration::from_millis(10);
/// From one try to the next: longer than packets take around the earth.
const TRY: Duration = Duration::from_millis(800);
/// While nobody has said where packets end up: with the tries so long that the kernel, which asks three seconds for a
/// neighbour (`mcast_solicit`, arp(7)), has had the time to say that there is none.
const LAST: Duration = Duration::from_secs(1);

/// The path to the target by the probe's protocol, from this address of ours.
pub(crate) fn path(request: &Request, own: Option<IpAddr>, deadline: Deadline) -> Seen<Path> {
    let to = SocketAddr::new(request.target, request.protocol.port().unwrap_or(0));
    let mut sender = match &request.protocol {
        Protocol::Icmp => match Echo::open(Family::of(request.target)) {
            Ok(echo) => Sender::Icmp(echo, to),
            Err(why) => return (Part::absent(&why), false),
        },
        Protocol::Tcp { .. } => Sender::Other(Flights::tcp(to)),
        Protocol::Udp { payload, .. } => Sender::Other(Flights::udp(to, payload.clone())),
    };
    let mut trace = Trace::new(request.target, own);
    let (mut sent, mut refused) = (false, Errno::UnknownErrno);
    for _ in 0..TRIES {
        let try_ends = deadline.or_in(TRY);
        for ttl in 1..=HOPS {
            if trace.wants(ttl) && !deadline.is_past() {
                match sender.send(ttl) {
                    Ok(()) => sent = true,
                    Err(errno) => refused = errno,
                }
                sender.hear(&mut trace, deadline.or_in(PACE));
            }
        }
        if !sent && deadline.is_past() {
            return (Part::absent("the time was up before anything was sent"), true);
        }
        if !sent {
            return (Part::absent(&format!("this machine sends nothing there: {}", refused.desc())), false);
        }
        while !try_ends.is_past() && !trace.is_settled() {
            sender.hear(&mut trace, try_ends);
        }
    }
    let ends = deadline.or_in(LAST);
    while !ends.is_past() && !trace.is_ended() {
        sender.hear(&mut trace, ends);
    }
    let cut = deadline.is_past() && !trace.is_settled();
    (Part::Seen(trace.finish()), cut)
}

enum Sender {
    Icmp(Echo, SocketAddr),
    Other(Flights),
}

impl Sender {
    fn send(&mut self, ttl: u8) -> Result<(), Errno> {
        match self {
            Self::Icmp(echo, to) => {
                echo.set_ttl(ttl)?;
                echo.send(*to, ttl.into(), None)
            }
            Self::Other(flights) => flights.send(ttl),
        }
    }

    /// Waits until then at the longest.
    fn hear(&mut self, trace: &mut Trace, until: Deadline) {
        let answers = match self {
            Self::Icmp(echo, _) => echo.hear(until).into_iter().filter_map(of_echo).collect(),
            Self::Other(flights) => flights.hear(until),
        };
        answers.into_iter().for_each(|answer| trace.answered(answer));
    }
}

fn of_echo(heard: Heard) -> Option<Answer> {
    let Heard { key, from, said, mtu, rtt } = heard;
    Some(Answer { ttl: u8::try_from(key).ok()?, from, said, mtu, rtt: Some(rtt) })
}
