//! An incident while nobody reads the queues: the publisher is dead, and the alerter does not reach its queue. Then both come back.

use std::collections::BTreeSet;
use std::time::Duration;

use crosswatch_lab::{Fault, Process, Tunnel};
use crosswatch_shared::time::Timestamp;
use crosswatch_tests::deployment::{json_lines, wait_until, wait_within};
use crosswatch_tests::judged;
use crosswatch_tests::root::require_root;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::books::{compare_with_twin, time, wait_for_all_until_now};
use crate::world::{LINK, NUMBER, PROBES, UNDER_WAY, VPN, World, now};

const WINDOW: Duration = Duration::from_secs(10);
/// What has lain in a queue for longer is of the past, as docs/incidents.md says; and how long a batch may take into it.
const OLD: Duration = Duration::from_secs(60 + 5);
/// Two of each probe, one of the VPN connection and two of its polls.
const SERIES: usize = 2 * PROBES.len() + 3;
/// What an alerter asks of its queue.
const CALLS: [&str; 3] = ["ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"];

/// What an undisturbed twin judges: a replay of what the collectors have written down, which is all that there is to judge.
/// Time, rule, subject and state of all that fired and resolved, by time.
fn twin(world: &World) -> Vec<[String; 4]> {
    let journals = world.journals();
    let replayed = world.tool(&["replay", "--format", "jsonl", "--journal", journals.to_str().unwrap()]);
    let transitions = json_lines(&replayed).into_iter().map(|transition| {
        ["at", "rule", "subject", "state"].map(|field| transition[field].as_str().unwrap().to_owned())
    });
    transitions.filter(|[.., state]| ["firing", "resolved"].contains(&&**state)).collect()
}

/// Waits until a rule's newest transition is this one for each of these subjects. Gives the time of the last.
fn wait_for_twin(world: &World, rule: &str, subjects: &[&str], state: &str) -> Timestamp {
    let mut last = None;
    wait_until(&format!("{rule} is {state} of {subjects:?}"), || {
        let twin = twin(world);
        let newest = |subject: &&str| {
            let of_subject = |[_, by, of, _]: &&[String; 4]| by == rule && of == subject;
            twin.iter().rfind(of_subject).filter(|[.., of]| of == state)
        };
        let newest: Option<Vec<_>> = subjects.iter().map(newest).collect();
        last = newest.and_then(|all| all.into_iter().map(|[at, ..]| at.parse().unwrap()).max());
        last.is_some()
    });
    last.unwrap()
}

/// What each of the receiver's two channels was told, in the order accepted.
fn told(world: &World) -> [Vec<String>; 2] {
    let messages = world.list("/messages");
    [NUMBER, ":crosswatch-oncall"].map(|channel| {
        let to_it = messages.iter().filter(|message| message["to"].as_str().unwrap().ends_with(channel));
        to_it.map(|message| message["text"].as_str().unwrap().to_owned()).collect()
    })
}

#[test]
fn what_nobody_read_meanwhile_is_one_digest_one_page_and_the_metrics_of_an_undisturbed_twin() {
    if !require_root(
        "what_nobody_read_meanwhile_is_one_digest_one_page_and_the_metrics_of_an_undisturbed_twin",
    ) {
        return;
    }
    let mut world = World::up();
    world.wait_until_up();

    world.lab.kill(Process::Publisher, Signal::SIGKILL).unwrap();
    for operation in CALLS {
        let matching = json!({"service": "sqs", "resource": "crosswatch-alerter", "operation": operation});
        let cut = json!({"id": operation, "match": matching, "effect": {"status": 503}});
        world.gate().add_fault(&cut).unwrap();
    }
    // It has one poll open at a time: from the first that is refused on it reads nothing.
    wait_until("the alerter's queue is cut", || {
        world
            .list("/faults")
            .iter()
            .any(|fault| fault["id"] == CALLS[0] && fault["struck"].as_u64() > Some(0))
    });

    let begun = now();
    let over: [(Fault, &str); 2] = [
        (Fault::BlackHole, "ping-failed"),
        (Fault::Slow { rtt: Duration::from_millis(300) }, "latency-high"),
    ];
    for (fault, rule) in over {
        world.lab.fault(fault).unwrap();
        wait_for_twin(&world, rule, &PROBES, "firing");
        world.lab.heal().unwrap();
        wait_for_twin(&world, rule, &PROBES, "resolved");
    }
    world.lab.fault(Fault::TunnelDown { tunnel: Tunnel::Both }).unwrap();
    let burns = wait_for_twin(&world, "tunnels-down", &[VPN], "firing");
    wait_within(UNDER_WAY, "all of it is of the past", || now().since(burns) > OLD);
    assert_eq!(told(&world), [[""; 0]; 2], "nobody knew");
    assert_eq!(judged::symptoms(&world.alerter()), []);
    let put = world.list("/datapoints?metric=PingSuccess");
    assert!(put.iter().all(|point| time(&point["at"]) < begun), "{put:#?}");

    CALLS.iter().for_each(|operation| world.gate().remove_fault(operation).unwrap());
    world.lab.start(Process::Publisher).unwrap();
    wait_within(UNDER_WAY, "what was missed is told", || told(&world).iter().all(|texts| texts.len() >= 2));
    let incidents = judged::incidents(&world.alerter());
    let kinds: Vec<_> = incidents.iter().map(|of| (of.kind.as_str(), of.open)).collect();
    let [(first, false), (second, false), (third, true)] = kinds[..] else {
        panic!("{incidents:#?}, told: {:#?}", told(&world))
    };
    assert_eq!((second, third), ("slow", "tunnels-down"));
    let digest = format!(
        "RESOLVED catch-up oncall: 2 began and ended while the alerter was behind: {LINK} {first}, {LINK} {second}"
    );
    let page = format!("FIRING tunnels-down {LINK}: ");
    for mut texts in told(&world) {
        texts.sort_unstable();
        assert!(texts.len() == 2 && texts[0].starts_with(&page) && texts[1] == digest, "{texts:#?}");
    }

    // The digest says itself that it is over; the page is owed its end.
    world.lab.heal().unwrap();
    wait_within(UNDER_WAY, "its end is told", || told(&world).iter().all(|texts| texts.len() >= 3));
    let end = wait_for_all_until_now(&world, WINDOW);
    let all_clear = format!("RESOLVED tunnels-down {LINK}: over after ");
    for texts in told(&world) {
        assert!(texts.len() == 3 && texts[2].starts_with(&all_clear), "{texts:#?}");
    }
    let twin: BTreeSet<_> = twin(&world).into_iter().collect();
    assert_eq!(judged::transitions(&world.alerter()), twin, "as of then, to the time of each");
    let windows = compare_with_twin(&world, end);
    println!("{} transitions and {windows} windows in {:?}", twin.len(), now().since(begun));
    assert!(windows > SERIES * 6, "a minute of each series and more");
}
