//! What Publish refuses, and what is told of SMS.

use crosswatch_gate::SmsState;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn what_sns_refuses_is_refused_and_the_rest_is_in_the_messages() {
    let test = "what_sns_refuses_is_refused_and_the_rest_is_in_the_messages";
    let Some(world) = World::new(test).await else { return };
    let topic = world.topic("page").await;
    let number = ("PhoneNumber", "+15555550100");
    let text = ("Message", "hello");
    let attribute = |name, kind, value| {
        [
            ("MessageAttributes.entry.1.Name", name),
            ("MessageAttributes.entry.1.Value.DataType", kind),
            ("MessageAttributes.entry.1.Value.StringValue", value),
        ]
    };
    let sms = |more: &[(&'static str, &'static str)]| [&[number, text], more].concat();
    let long = "x".repeat(1_601);
    let subject = "s".repeat(101);
    let elsewhere = topic.replace("us-east-1", "eu-west-1");
    let absent = format!("{topic}-not");
    world
        .control
        .set_sms(&SmsState { opted_out: ["+15555550199".to_owned()].into(), ..Default::default() })
        .unwrap();
    let (parameter, value) = ("InvalidParameter", "ParameterValueInvalid");
    let refused: Vec<(Vec<(&str, &str)>, &str)> = vec![
        (vec![("PhoneNumber", "15555550100"), text], parameter),
        (vec![("PhoneNumber", "+1 555 5550100"), text], parameter),
        (vec![("PhoneNumber", "+05555550100"), text], parameter),
        (vec![("PhoneNumber", "+1234567890123456"), text], parameter),
        (vec![("PhoneNumber", "+15555550199"), text], parameter),
        (vec![number, ("Message", "")], parameter),
        (vec![number, ("Message", &long)], parameter),
        (vec![number, text, ("TopicArn", &topic)], parameter),
        (vec![text], parameter),
        (vec![("TopicArn", &elsewhere), text], parameter),
        (vec![("TopicArn", &absent), text], "NotFound"),
        (vec![("TopicArn", &topic), text, ("Subject", &subject)], parameter),
        (vec![("TopicArn", &topic), text, ("Subject", "ä")], parameter),
        (vec![("TopicArn", &topic), text, ("Subject", "a\nb")], parameter),
        (sms(&attribute("AWS.SNS.SMS.SMSType", "String", "transactional")), value),
        (sms(&attribute("AWS.SNS.SMS.SenderID", "String", "12345")), value),
        (sms(&attribute("AWS.SNS.SMS.SenderID", "String", "TwelveLetter")), value),
        (sms(&attribute("AWS.SNS.SMS.MaxPrice", "String", "0.5")), value),
        (sms(&attribute("AWS.SNS.SMS.MaxPrice", "Number", "cheap")), value),
        (sms(&attribute("AWS.MM.SMS.OriginationNumber", "String", "+1-555")), value),
        (sms(&attribute("x", "String", "")), value),
    ];
    for (mut pairs, code) in refused {
        pairs.push(("Action", "Publish"));
        let answer = world.form("sns", "test", &pairs).await;
        assert_eq!(answer.code, code, "{pairs:?}: {}", answer.text);
    }
    assert_eq!(world.control.messages().unwrap(), []);

    let mut pairs = sms(&attribute("AWS.SNS.SMS.SMSType", "String", "Transactional"));
    pairs.push(("Action", "Publish"));
    assert_eq!(world.form("sns", "test", &pairs).await.status, 200);
    let pairs = [("Action", "Publish"), ("TopicArn", topic.as_str()), text, ("Subject", "It is")];
    assert_eq!(world.form("sns", "test", &pairs).await.status, 200);
    let messages = world.control.messages().unwrap();
    let seen: Vec<_> =
        messages.iter().map(|m| (m.n, m.kind.as_str(), m.to.as_str(), m.text.as_str())).collect();
    assert_eq!(seen, [(0, "sms", "+15555550100", "hello"), (1, "topic", topic.as_str(), "hello")]);
    assert_eq!(messages[0].attributes["AWS.SNS.SMS.SMSType"], "Transactional");
    assert_eq!((messages[1].subject.as_deref(), messages[1].source.as_str()), (Some("It is"), "direct"));

    let asked = async |pairs: &[(&str, &str)]| world.form("sns", "test", pairs).await.text;
    let out = [("Action", "CheckIfPhoneNumberIsOptedOut"), ("phoneNumber", "+15555550199")];
    assert!(asked(&out).await.contains("<isOptedOut>true</isOptedOut>"));
    assert!(
        asked(&[("Action", "GetSMSAttributes")])
            .await
            .contains("<key>MonthlySpendLimit</key><value>1</value>")
    );
    assert!(
        asked(&[("Action", "GetSMSSandboxAccountStatus")]).await.contains("<IsInSandbox>false</IsInSandbox>")
    );
}
