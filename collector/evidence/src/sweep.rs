//! Finds the largest packet that passes undivided, by ICMP echo to the target.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crosswatch_prober::Family;
use crosswatch_shared::evidence::{Part, Route, Said, Sweep};
use nix::errno::Errno;

use crate::Seen;
use crate::echo::Echo;
use crate::moment::Deadline;
use crate::search::Search;

/// What every host takes (RFC 1122, section 3.3.2) and every link of IPv6 carries (RFC 8200, section 5).
const LEAST_V4: u32 = 576;
const LEAST_V6: u32 = 1280;
/// A packet is sent so often before it counts as lost.
const TRIES: u32 = 3;
/// Between two packets: all sizes at once would be a burst of their own.
const PACE: Duration = Duration::from_millis(2);
/// For the first reply, after which it is known how long one takes.
const FIRST: Duration = Duration::from_millis(600);
/// For a reply: this and twice what the first took.
const WAIT: Duration = Duration::from_millis(150);
const LONGEST_WAIT: Duration = Duration::from_millis(600);
/// There are five at most, unless replies come very late.
const STEPS: u32 = 8;

/// Which sizes pass to the target over this route.
pub(crate) fn sweep(target: IpAddr, route: Option<&Route>, deadline: Deadline) -> Seen<Sweep> {
    match start(target, route) {
        Ok((mut echo, least, most)) => match smallest(&mut echo, target, least, deadline) {
            Ok(rtt) => largest(&mut echo, target, Search::new(least, most), rtt, deadline),
            Err(why) if deadline.is_past() => (Part::absent(&why), true),
            Err(why) => (Part::absent(&why), false),
        },
        Err(why) => (Part::absent(&why), false),
    }
}

/// A socket, and between which sizes to search.
fn start(target: IpAddr, route: Option<&Route>) -> Result<(Echo, u32, u32), String> {
    let route = route.ok_or("the route is not known")?;
    if !route.kind.leads_on() {
        return Err("there is no route to the target".to_owned());
    }
    let most = route.interface_mtu.ok_or("the interface's MTU is not known")?.min(65_535);
    let family = Family::of(target);
    let least = match family {
        Family::V4 => LEAST_V4,
        Family::V6 => LEAST_V6,
    };
    let echo = Echo::open(family)?;
    echo.never_divide()?;
    Ok((echo, least.min(most), most))
}

/// How long the smallest takes, if it passes.
fn smallest(echo: &mut Echo, target: IpAddr, least: u32, deadline: Deadline) -> Result<Duration, String> {
    let to = SocketAddr::new(target, 0);
    for _ in 0..TRIES {
        let until = deadline.or_in(FIRST);
        if let Err(errno) = echo.send(to, least, Some(least)) {
            return Err(format!("this machine sends no {least} bytes there: {}", errno.desc()));
        }
        while !until.is_past() {
            match echo.hear(until).first() {
                Some(heard) if heard.said == Said::Reply => return Ok(heard.rtt),
                Some(heard) => return Err(format!("{least} bytes do not pass: {}", heard.said.words())),
                None => {}
            }
        }
    }
    Err(if deadline.is_past() {
        format!("no reply to {least} bytes before the time was up")
    } else {
        format!("{least} bytes do not pass either, or the target does not answer ping")
    })
}

fn largest(
    echo: &mut Echo,
    target: IpAddr,
    mut search: Search,
    rtt: Duration,
    deadline: Deadline,
) -> Seen<Sweep> {
    let to = SocketAddr::new(target, 0);
    let wait = (WAIT + 2 * rtt).min(LONGEST_WAIT);
    for _ in 0..STEPS {
        let sizes = search.next();
        if sizes.is_empty() {
            break;
        }
        for _ in 0..TRIES {
            for &size in &sizes {
                if search.is_decided(size) || deadline.is_past() {
                    continue;
                }
                if echo.send(to, size, Some(size)) == Err(Errno::EMSGSIZE) {
                    search.failed(size);
                }
                hear(echo, &mut search, deadline.or_in(PACE));
            }
            let until = deadline.or_in(wait);
            while !until.is_past() && sizes.iter().any(|&size| !search.is_decided(size)) {
                hear(echo, &mut search, until);
            }
        }
        if deadline.is_past() {
            break;
        }
        let lost: Vec<_> = sizes.into_iter().filter(|&size| !search.is_decided(size)).collect();
        lost.into_iter().for_each(|size| search.failed(size));
    }
    let cut = !search.next().is_empty();
    (Part::Seen(search.sweep()), cut)
}

fn hear(echo: &mut Echo, search: &mut Search, until: Deadline) {
    for heard in echo.hear(until) {
        match heard.said {
            Said::Reply => search.passed(heard.key),
            Said::FragNeeded => search.told(heard.key, heard.mtu, heard.from),
            // Says nothing of its size.
            _ => {}
        }
    }
}
