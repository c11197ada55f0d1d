//! CloudWatch fails one time in three: nothing is lost of any series.

use std::time::Duration;

use crosswatch_lab::Site;
use crosswatch_tests::deployment::wait_within;
use crosswatch_tests::root::require_root;
use serde_json::{Value, json};

use crate::books::{Books, compare, wait_for_all_until_now};
use crate::past;
use crate::world::{UNDER_WAY, World};

/// Short, so that there is much to put.
const WINDOW: Duration = Duration::from_secs(1);
/// What both regions have to tell before the lab is up: some ten thousand windows, which are ten requests and more.
const PAST: Duration = Duration::from_secs(1_200);

/// How often the AWS SDK sends a request before the publisher hears that it failed.
const TRIES: usize = 3;

#[test]
fn puts_that_fail_one_time_in_three_lose_nothing_and_repeat_nothing() {
    if !require_root("puts_that_fail_one_time_in_three_lose_nothing_and_repeat_nothing") {
        return;
    }
    let books = with_fault(&json!({"status": 500}));
    assert_eq!(books.repeated, 0, "what failed had no effect");
}

#[test]
fn puts_whose_answer_is_lost_one_time_in_three_lose_nothing_and_are_repeated_whole() {
    if !require_root("puts_whose_answer_is_lost_one_time_in_three_lose_nothing_and_are_repeated_whole") {
        return;
    }
    let books = with_fault(&json!({"lose_answer": true}));
    assert!(books.repeated > 0, "what is not known to be accepted is put again");
}

/// One request in three ends so. In the middle of the past all do, until a put with windows in it was given up after all
/// tries of its call: the SDK would hide the others from the publisher.
fn with_fault(effect: &Value) -> Books {
    let puts = json!({"service": "cloudwatch", "operation": "PutMetricData"});
    let often = json!({"id": "often", "match": puts, "effect": effect, "one_in": 3});
    let always = json!({"id": "always", "match": puts, "effect": effect});
    // So that the middle can be met.
    let slow = json!({"id": "slow", "match": puts, "effect": {"latency_ms": 1_000}});
    let world = World::prepared(
        |text| text.replace("period = \"10s\"", "period = \"1s\""),
        move |lab| {
            lab.control().unwrap().add_fault(&often).unwrap();
            lab.control().unwrap().add_fault(&slow).unwrap();
            Site::ALL.into_iter().for_each(|site| past::write(lab, site, PAST));
        },
    );
    let many = |failed: bool| {
        let page = world.gate().get("/record?service=cloudwatch&operation=PutMetricData").unwrap();
        let requests = page["requests"].as_array().unwrap().iter();
        requests
            .filter(|request| request["entries"].as_u64() > Some(100))
            .filter(|request| !failed || !request["code"].is_null())
            .count()
    };
    wait_within(UNDER_WAY, "the past is being put", || many(false) > 0);
    world.gate().add_fault(&always).unwrap();
    let before = many(true);
    wait_within(UNDER_WAY, "a put is given up", || many(true) > before + TRIES);
    world.gate().remove_fault("always").unwrap();
    world.gate().remove_fault("slow").unwrap();
    world.wait_until_up();
    let end = wait_for_all_until_now(&world, WINDOW);
    let books = compare(&world, WINDOW, end);
    let faults = world.list("/faults");
    println!("{books:?} with {} of {} requests struck", faults[0]["struck"], faults[0]["matched"]);
    assert!(faults[0]["struck"].as_u64() >= Some(3), "{faults:?}");
    assert_eq!(books.uneven, 0);
    books
}
