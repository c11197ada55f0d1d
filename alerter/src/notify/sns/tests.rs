use super::super::{Notifier, World};
use super::*;
use crate::config::{Template, Texting};
use crate::ledger::{Destination, Ledger};
use crate::testing::{Answer, BOUND, Endpoint, TAKEN, publication, refusal};

const TOPIC: &str = "arn:aws:sns:ap-southeast-2:123456789012:oncall";

const BODY: &str = r#"{"id":"1","state":"firing","rule":"r","subject":"s","link":"","at":"2026-11-22T07:00:01.000000Z","value":null,"reason":"3 of 3 lost","text":"FIRING r é & ü=1: 3 of 3 lost"}"#;

fn receiver(texting: Texting) -> Receiver {
    Receiver {
        name: "oncall".into(),
        sms: vec!["+15555550100".to_owned(), "+445555550101".to_owned()],
        texting,
        topic: Some(TOPIC.to_owned()),
        webhook: None,
        template: Template::Plain,
        command: Vec::new(),
        console: false,
        at_most: None,
    }
}

/// Notifiers of every destination of a receiver, over a stand-in that answers so.
async fn notifiers(endpoint: &Endpoint, texting: Texting, within: Duration) -> Vec<Notifier> {
    let url = endpoint.url.split("/hook").next().unwrap();
    let world = World::Real(Aws::of(Session::emulated(url, "us-east-1")), within);
    let receiver = receiver(texting);
    let ledger = Ledger::new(std::slice::from_ref(&receiver));
    let of = |to: &Destination| Notifier::new(&receiver, to, &world).unwrap();
    ledger.destinations().iter().map(of).collect()
}

#[tokio::test]
async fn each_number_gets_one_transactional_text_as_the_config_says() {
    let mut endpoint = Endpoint::start([TAKEN, TAKEN]).await;
    let texting = Texting {
        sender_id: Some("CROSSWATCH".to_owned()),
        origination_number: Some("+15555550199".to_owned()),
        max_price: Some(0.05),
        region: Some("eu-west-1".to_owned()),
    };
    let notifiers = notifiers(&endpoint, texting, BOUND).await;
    assert_eq!(notifiers.len(), 3, "two numbers and a topic");
    for (notifier, number) in notifiers.iter().zip(["+15555550100", "+445555550101"]) {
        notifier.send(BODY).await.unwrap();
        let (region, mut told) = publication(&endpoint.requests.recv().await.unwrap());
        assert_eq!(region, "eu-west-1");
        assert_eq!(told.remove("PhoneNumber").unwrap(), number);
        assert_eq!(told.remove("Message").unwrap(), "FIRING r é & ü=1: 3 of 3 lost");
        let mut attributes = Vec::new();
        for entry in 1.. {
            let mut take = |what: &str| told.remove(&format!("MessageAttributes.entry.{entry}.{what}"));
            let Some(name) = take("Name") else { break };
            attributes.push((name, take("Value.DataType").unwrap(), take("Value.StringValue").unwrap()));
        }
        attributes.sort();
        let expected = [
            ("AWS.MM.SMS.OriginationNumber", "String", "+15555550199"),
            ("AWS.SNS.SMS.MaxPrice", "Number", "0.05000"),
            ("AWS.SNS.SMS.SMSType", "String", "Transactional"),
            ("AWS.SNS.SMS.SenderID", "String", "CROSSWATCH"),
        ];
        assert_eq!(attributes, expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned())));
        told.remove("Action");
        told.remove("Version");
        assert!(told.is_empty(), "{told:?}");
    }
}

#[tokio::test]
async fn what_the_config_does_not_say_is_left_to_sns() {
    let mut endpoint = Endpoint::start([TAKEN]).await;
    let notifiers = notifiers(&endpoint, Texting::default(), BOUND).await;
    notifiers[0].send(BODY).await.unwrap();
    let (region, told) = publication(&endpoint.requests.recv().await.unwrap());
    assert_eq!(region, "us-east-1");
    let attributes: Vec<_> = told.keys().filter(|name| name.ends_with(".Name")).collect();
    assert_eq!(attributes, ["MessageAttributes.entry.1.Name"]);
    assert_eq!(told["MessageAttributes.entry.1.Value.StringValue"], "Transactional");
}

#[tokio::test]
async fn a_topic_is_told_in_its_own_region_with_a_subject() {
    let mut endpoint = Endpoint::start([TAKEN]).await;
    let notifiers =
        notifiers(&endpoint, Texting { region: Some("eu-west-1".to_owned()), ..Texting::default() }, BOUND)
            .await;
    notifiers[2].send(BODY).await.unwrap();
    let (region, told) = publication(&endpoint.requests.recv().await.unwrap());
    assert_eq!(region, "ap-southeast-2");
    assert_eq!(told["TopicArn"], TOPIC);
    assert_eq!(told["Message"], "FIRING r é & ü=1: 3 of 3 lost");
    assert_eq!(told["Subject"], "FIRING r ? & ?=1: 3 of 3 lost");
}

/// A repeated text is worse than a late one: when it is repeated is the ledger's to say, and only its.
#[tokio::test]
async fn a_try_is_one_request_whatever_becomes_of_it() {
    let cases = [
        (refusal(400, "Throttled"), Kind::Throttled, "Throttled", BOUND),
        (refusal(500, "InternalFailure"), Kind::Service, "InternalFailure", BOUND),
        (Answer::Status(503, "", ""), Kind::Service, "", BOUND),
        (refusal(400, "InvalidParameter"), Kind::Refused, "correct the number", BOUND),
        (refusal(403, "AuthorizationError"), Kind::Denied, "allow the alerter's role", BOUND),
        (Answer::Close, Kind::Unreachable, "", BOUND),
        (Answer::Hang, Kind::Timeout, "no answer in time; whether it was taken is not known", {
            Duration::from_millis(300)
        }),
    ];
    for (answer, kind, said, within) in cases {
        let mut endpoint = Endpoint::start([answer.clone()]).await;
        let notifiers = notifiers(&endpoint, Texting::default(), within).await;
        let error = notifiers[0].send(BODY).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        let NotifyError::Sns(failure) = error else { panic!("{error}") };
        assert_eq!(failure.kind, kind, "{answer:?}: {failure}");
        publication(&endpoint.requests.recv().await.unwrap());
        assert!(endpoint.requests.is_empty(), "{answer:?} was tried again");
    }
}

#[test]
fn what_may_have_been_taken_is_repeated_late_and_what_is_refused_seldom() {
    let rest = |kind| {
        let failure = Failure { operation: "sns:Publish", kind, code: String::new(), message: String::new() };
        let error = NotifyError::Sns(failure);
        (error.rest().as_secs(), error.rest_of_all().as_secs(), error.needs_somebody())
    };
    assert_eq!(rest(Kind::Refused), (60, 0, true));
    assert_eq!(rest(Kind::Denied), (0, 0, true));
    assert_eq!(rest(Kind::Timeout), (15, 0, false));
    assert_eq!(rest(Kind::Service), (15, 0, false));
    assert_eq!(rest(Kind::Throttled), (3, 3, false));
    assert_eq!(rest(Kind::Unreachable), (15, 0, false), "a connection that was lost");
}

#[tokio::test]
async fn what_never_left_is_tried_again_soon() {
    let aws = Aws::of(Session::emulated("http://127.0.0.1:1", "us-east-1"));
    let notifier = Publish::sms(&aws, &receiver(Texting::default()), "+15555550100", BOUND);
    let error = notifier.send(BODY).await.unwrap_err();
    assert!(matches!(error, NotifyError::Sns(Failure { kind: Kind::Unreachable, .. })), "{error}");
    assert_eq!(error.rest(), Duration::ZERO, "{error}");
}
