//! What stages ask of AWS only in need: a site that reaches no alerter tells its own topic, and whoever cannot write its file keeps what
//! it has received hidden from others, and takes it once it can.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use crosswatch_lab::{Cloud, Fault, Lab, Options};
use crosswatch_tests::deployment::{wait_until, wait_within};
use crosswatch_tests::process::{laboratory, program};
use crosswatch_tests::root::require_root;
use rusqlite::Connection;
use serde_json::json;

/// A collector waits for a minute before it says that it reaches no alerter.
const LAST_GASP: Duration = Duration::from_secs(180);

#[test]
fn a_site_in_need_tells_its_topic_and_a_stage_in_need_keeps_what_it_has_hidden_until_it_can_take_it() {
    let test =
        "a_site_in_need_tells_its_topic_and_a_stage_in_need_keeps_what_it_has_hidden_until_it_can_take_it";
    if !require_root(test) {
        return;
    }
    let [lab, gate] = laboratory().clone();
    let ministack = PathBuf::from(env::var_os("MINISTACK").expect("MINISTACK, as tests/run sets it"));
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::up(Options {
        plain: true,
        cloud: Cloud::Gate { gate, ministack },
        every: Duration::from_millis(200),
        change_config: Box::new(|text| text.replace("clear = 30", "clear = 5")),
        ..Options::new(folder.path().join("lab"), program().to_owned(), lab)
    });
    let mut lab = lab.unwrap_or_else(|error| panic!("{error}"));
    let control = lab.control().unwrap();
    let messages = || control.get("/messages").unwrap().as_array().unwrap().clone();
    let told = |to: &str, what: &str| {
        let of = messages().into_iter().filter(|message| message["to"].as_str().unwrap().ends_with(to));
        of.filter(|message| message["text"].as_str().unwrap().contains(what)).count()
    };

    // One site's sends fail, and nothing else of it; meanwhile nobody else may write the stages' files.
    let cut = json!({"id": "cut", "effect": {"reset": true},
        "match": {"service": "sqs", "operation": "SendMessageBatch", "source": "172.31.2.2"}});
    control.add_fault(&cut).unwrap();
    let files = ["publisher.db", "alerter.db"].map(|name| {
        let file = Connection::open(lab.folder().join("data").join(name)).unwrap();
        file.busy_timeout(Duration::from_secs(60)).unwrap();
        file.execute_batch("BEGIN IMMEDIATE").unwrap();
        file
    });
    for queue in ["crosswatch-publisher", "crosswatch-alerter"] {
        wait_until(&format!("what came from {queue} is kept hidden"), || {
            let counts = control.get("/counts").unwrap();
            counts.as_array().unwrap().iter().any(|count| {
                count["operation"] == "ChangeMessageVisibilityBatch"
                    && count["resource"].as_str().unwrap().ends_with(queue)
                    && count["entries"] != 0
            })
        });
    }
    // Now it can be taken.
    for file in files {
        file.execute_batch("ROLLBACK").unwrap();
    }
    lab.fault(Fault::BlackHole).unwrap();
    wait_until("the page", || told("+15555550100", "FIRING") > 0);
    lab.heal().unwrap();

    wait_within(LAST_GASP, "the last gasp", || told(":crosswatch-site-eu-west-1", "eu-west-1") > 0);
    assert_eq!(told(":crosswatch-site-us-east-1", ""), 0, "the other site is well");
    control.remove_fault("cut").unwrap();
    wait_until("it reaches the alerter again, and says so", || told(":crosswatch-site-eu-west-1", "") > 1);
}
