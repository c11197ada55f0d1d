//! CloudWatch fails one time in three: nothing is lost of any series.

use std::time::Duration;

use crosswatch_lab::Site;
use crosswatch_tests::root::require_root;
use serde_json::{Value, json};

use crate::books::{Books, compare, wait_for_all_until_now};
use crate::past;
use crate::world::World;

/// Short, so that there is much to put.
const WINDOW: Duration = Duration::from_secs(1);
/// What both regions have to tell before the lab is up: some ten thousand windows, which are ten requests and more.
const PAST: Duration = Duration::from_secs(1_200);

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

fn with_fault(effect: &Value) -> Books {
    let fault = json!({
        "id": "puts", "match": {"service": "cloudwatch", "operation": "PutMetricData"},
        "effect": effect, "one_in": 3,
    });
    let world = World::prepared(
        |text| text.replace("period = \"10s\"", "period = \"1s\""),
        move |lab| {
            lab.control().unwrap().add_fault(&fault).unwrap();
            Site::ALL.into_iter().for_each(|site| past::write(lab, site, PAST));
        },
    );
    world.wait_until_up();
    let end = wait_for_all_until_now(&world, WINDOW);
    let books = compare(&world, WINDOW, end);
    let faults = world.list("/faults");
    println!("{books:?} with {} of {} requests struck", faults[0]["struck"], faults[0]["matched"]);
    assert!(faults[0]["struck"].as_u64() >= Some(3), "{faults:?}");
    assert_eq!(books.uneven, 0);
    books
}
