use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

const CONFIG: &str = r#"
[site.us-east-1]
region = "us-east-1"
topic = "arn:aws:sns:us-east-1:000000000000:gasp"
[site.eu-west-1]
region = "eu-west-1"
[[link]]
name = "use1-euw1"
between = ["us-east-1", "eu-west-1"]
vpn = [
  { site = "us-east-1", id = "vpn-0a1b2c3d4e5f60718" },
  { site = "us-east-1", id = "vpn-0a1b2c3d4e5f60719" },
  { site = "eu-west-1", tag = "Name=a", role = "arn:aws:iam::123456789012:role/reader" },
]
[queue]
kind = "sqs"
publisher = "URL/000000000000/publisher"
alerter = "URL/000000000000/alerter"
[metrics]
kind = "cloudwatch"
[notify.oncall]
sms = ["+15555550100"]
"#;

fn config(url: &str) -> Config {
    Config::parse(CONFIG.replace("URL", url).as_bytes(), Path::new("c.toml")).unwrap()
}

/// Answers each request as the table says for its action: a code, with status 400; without an entry as AWS does to who may.
struct StandIn {
    url: String,
    _server: tokio::task::JoinHandle<()>,
}

impl StandIn {
    async fn start(codes: &[(&'static str, &'static str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let codes: Arc<BTreeMap<&str, &str>> = Arc::new(codes.iter().copied().collect());
        let server = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let codes = Arc::clone(&codes);
                tokio::spawn(async move {
                    let mut read = Vec::new();
                    loop {
                        let mut chunk = [0; 4096];
                        match stream.read(&mut chunk).await {
                            Ok(0) | Err(_) => return,
                            Ok(count) => read.extend_from_slice(&chunk[..count]),
                        }
                        let text = String::from_utf8_lossy(&read).into_owned();
                        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                        let head = head.to_lowercase();
                        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                        if read.len() - head.len() - 4 < length.map_or(0, |length| length.parse().unwrap()) {
                            continue;
                        }
                        let answer = answer(&head, body, &codes);
                        read.clear();
                        if stream.write_all(&answer).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, _server: server }
    }
}

fn answer(head: &str, body: &str, codes: &BTreeMap<&str, &str>) -> Vec<u8> {
    let whole = |status: u16, headers: &str, body: &[u8]| {
        let length = body.len();
        let mut whole =
            format!("HTTP/1.1 {status} Word\r\n{headers}\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        whole.extend_from_slice(body);
        whole
    };
    if let Some(target) = head.lines().find_map(|line| line.strip_prefix("x-amz-target: amazonsqs.")) {
        let (ok, action) = match target {
            "sendmessagebatch" => ("EmptyBatchRequest", "SendMessage"),
            "deletemessagebatch" => ("EmptyBatchRequest", "DeleteMessage"),
            "changemessagevisibilitybatch" => ("EmptyBatchRequest", "ChangeMessageVisibility"),
            "receivemessage" => ("InvalidParameterValue", "ReceiveMessage"),
            "getqueueattributes" => ("", "GetQueueAttributes"),
            other => panic!("{other}"),
        };
        let emptiness = ["\"Entries\":[]", "\"MaxNumberOfMessages\":0", "AttributeNames"];
        assert!(emptiness.iter().any(|mark| body.contains(mark)), "not harmless: {body}");
        let code = codes.get(action).copied().unwrap_or(ok);
        let json = "content-type: application/x-amz-json-1.0";
        if code.is_empty() {
            let numbers = ["", "NotVisible", "Delayed"]
                .map(|kind| format!("\"ApproximateNumberOfMessages{kind}\":\"0\""))
                .join(",");
            return whole(200, json, format!("{{\"Attributes\":{{{numbers}}}}}").as_bytes());
        }
        let said = format!("{{\"__type\":\"com.amazonaws.sqs#{code}\",\"message\":\"because\"}}");
        return whole(400, json, said.as_bytes());
    }
    if let Some(path) = head.split(' ').nth(1).filter(|path| path.contains("/operation/")) {
        let action = path.rsplit('/').next().unwrap();
        let (ok, name) = match action {
            "putmetricdata" => ("InvalidParameterCombination", "PutMetricData"),
            "describealarms" => ("", "DescribeAlarms"),
            other => panic!("{other}"),
        };
        let code = codes.get(name).copied().unwrap_or(ok);
        let cbor = "smithy-protocol: rpc-v2-cbor\r\ncontent-type: application/cbor";
        if code.is_empty() {
            return whole(200, cbor, &[0xa0]);
        }
        // A map of one entry: "__type" to the code.
        let mut said = vec![0xa1, 0x66];
        said.extend_from_slice(b"__type");
        said.extend_from_slice(&[0x78, u8::try_from(code.len()).unwrap()]);
        said.extend_from_slice(code.as_bytes());
        return whole(400, cbor, &said);
    }
    let xml = "content-type: text/xml";
    let action = body.split('&').find_map(|pair| pair.strip_prefix("Action=")).unwrap_or_default();
    let refusal = |code: &str| {
        if action == "DescribeVpnConnections" {
            format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>because</Message></Error></Errors><RequestID>1</RequestID></Response>"
            )
        } else {
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>because</Message></Error><RequestId>1</RequestId></ErrorResponse>"
            )
        }
    };
    let result = |inner: &str| {
        format!("<{action}Response><{action}Result>{inner}</{action}Result></{action}Response>")
    };
    if let Some(code) = codes.get(action).filter(|code| !code.starts_with('=')) {
        return whole(400, xml, refusal(code).as_bytes());
    }
    let told = codes.get(action).map(|told| &told[1..]);
    match action {
        "DescribeVpnConnections" => {
            assert!(body.contains("DryRun=true"), "{body}");
            whole(412, xml, refusal("DryRunOperation").as_bytes())
        }
        "Publish" => {
            assert!(body.split('&').any(|pair| pair == "Message="), "not harmless: {body}");
            whole(400, xml, refusal("InvalidParameter").as_bytes())
        }
        "GetCallerIdentity" => whole(200, xml, result("<Arn>arn:aws:iam::000000000000:user/a</Arn>").as_bytes()),
        "AssumeRole" => whole(
            200,
            xml,
            result("<Credentials><AccessKeyId>a</AccessKeyId><SecretAccessKey>b</SecretAccessKey><SessionToken>c</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration></Credentials>").as_bytes(),
        ),
        "GetSMSSandboxAccountStatus" => {
            whole(200, xml, result(&format!("<IsInSandbox>{}</IsInSandbox>", told.unwrap_or("false"))).as_bytes())
        }
        "GetSMSAttributes" => whole(
            200,
            xml,
            result(&format!(
                "<attributes><entry><key>MonthlySpendLimit</key><value>{}</value></entry></attributes>",
                told.unwrap_or("50")
            ))
            .as_bytes(),
        ),
        "CheckIfPhoneNumberIsOptedOut" => {
            whole(200, xml, result(&format!("<isOptedOut>{}</isOptedOut>", told.unwrap_or("false"))).as_bytes())
        }
        other => panic!("{other}"),
    }
}

async fn lines(codes: &[(&'static str, &'static str)]) -> Vec<String> {
    let stand_in = StandIn::start(codes).await;
    let session = Session::emulated(&stand_in.url, "us-east-1");
    let verdicts = all(&session, wanted(&config(&stand_in.url), None, None)).await;
    let line = |((place, call), verdict): &((Place, Call), Verdict)| {
        line(place, call, verdict).replace(&stand_in.url, "URL")
    };
    verdicts.iter().map(line).collect()
}

#[tokio::test]
async fn what_is_allowed_is_told_once_for_each_account_and_region() {
    let told = lines(&[]).await;
    let expected = [
        "ok           sts:GetCallerIdentity              : arn:aws:iam::000000000000:user/a",
        "ok           sts:GetCallerIdentity              as arn:aws:iam::123456789012:role/reader: arn:aws:iam::000000000000:user/a",
        "ok           ec2:DescribeVpnConnections         eu-west-1 as arn:aws:iam::123456789012:role/reader",
        "ok           ec2:DescribeVpnConnections         us-east-1",
        "ok           sqs:SendMessage                    URL/000000000000/alerter",
        "ok           sqs:SendMessage                    URL/000000000000/publisher",
        "ok           sqs:ReceiveMessage                 URL/000000000000/alerter",
        "ok           sqs:ReceiveMessage                 URL/000000000000/publisher",
        "ok           sqs:ChangeMessageVisibility        URL/000000000000/alerter",
        "ok           sqs:ChangeMessageVisibility        URL/000000000000/publisher",
        "ok           sqs:DeleteMessage                  URL/000000000000/alerter",
        "ok           sqs:DeleteMessage                  URL/000000000000/publisher",
        "ok           sqs:GetQueueAttributes             URL/000000000000/alerter",
        "ok           sqs:GetQueueAttributes             URL/000000000000/publisher",
        "ok           cloudwatch:PutMetricData           Crosswatch",
        "ok           cloudwatch:DescribeAlarms",
        "ok           sns:Publish                        +15555550100",
        "ok           sns:Publish                        us-east-1 arn:aws:sns:us-east-1:000000000000:gasp",
        "ok           sns:GetSMSSandboxAccountStatus     : out of the sandbox",
        "ok           sns:GetSMSAttributes               : 50 $ a month",
        "ok           sns:CheckIfPhoneNumberIsOptedOut   +15555550100: not opted out",
    ];
    for (told, expected) in told.iter().zip(&expected) {
        let squeezed =
            |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").replace(" : ", ": ");
        assert_eq!(squeezed(told), squeezed(expected));
    }
    assert_eq!(told.len(), expected.len());
}

#[tokio::test]
async fn each_missing_permission_is_named_and_the_others_are_tried() {
    let denied = [
        ("DescribeVpnConnections", "UnauthorizedOperation"),
        ("SendMessage", "AccessDenied"),
        ("ReceiveMessage", "AccessDeniedException"),
        ("DeleteMessage", "QueueDoesNotExist"),
        ("GetQueueAttributes", "AccessDenied"),
        ("PutMetricData", "AccessDenied"),
        ("DescribeAlarms", "AccessDenied"),
        ("Publish", "AuthorizationError"),
        ("GetSMSAttributes", "AuthorizationError"),
    ];
    let told = lines(&denied).await;
    let of = |action: &str| told.iter().find(|line| line.contains(action)).unwrap();
    for action in [
        "ec2:DescribeVpnConnections",
        "sqs:SendMessage",
        "sqs:ReceiveMessage",
        "sqs:GetQueueAttributes",
        "cloudwatch:PutMetricData",
        "cloudwatch:DescribeAlarms",
        "sns:Publish",
    ] {
        let line = of(action);
        assert!(line.starts_with("missing ") && line.ends_with(&format!("; allow {action}")), "{line}");
    }
    let gone = of("sqs:DeleteMessage");
    assert!(gone.starts_with("missing ") && gone.contains("QueueDoesNotExist"), "{gone}");
    assert!(of("sqs:ChangeMessageVisibility").starts_with("ok "), "{told:?}");
    let only_read_here = of("sns:GetSMSAttributes");
    assert!(only_read_here.starts_with("warning "), "{only_read_here}");
}

#[tokio::test]
async fn sandbox_spend_limit_and_opt_outs_are_told() {
    let told = lines(&[
        ("GetSMSSandboxAccountStatus", "=true"),
        ("GetSMSAttributes", "=1"),
        ("CheckIfPhoneNumberIsOptedOut", "=true"),
    ])
    .await;
    let of = |action: &str| told.iter().find(|line| line.contains(action)).unwrap();
    assert!(of("Sandbox").starts_with("warning ") && of("Sandbox").contains("verified numbers"), "{told:?}");
    assert!(of("SMSAttributes").starts_with("warning ") && of("SMSAttributes").contains("1 $"), "{told:?}");
    assert!(of("OptedOut").starts_with("missing ") && of("OptedOut").contains("has opted out"), "{told:?}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_told_from_what_is_missing() {
    let session = Session::emulated("http://127.0.0.1:1", "us-east-1");
    let wanted = [(Place::default(), Call::Sms("+15555550100".to_owned()))].into();
    let verdicts = all(&session, wanted).await;
    let told = line(&verdicts[0].0.0, &verdicts[0].0.1, &verdicts[0].1);
    assert!(told.starts_with("unreachable  sns:Publish"), "{told}");
}

#[test]
fn a_config_without_aws_asks_nobody() {
    let config = Config::starter(None).unwrap();
    assert!(wanted(&config, None, None).is_empty());
}

/// Two alerters, a standby, and a topic of the alerter's: what each stage's role is for.
#[test]
fn of_a_stage_is_asked_what_its_role_grants_and_no_more() {
    let text = CONFIG
        .replace("URL/", "https://sqs.us-east-1.amazonaws.com/")
        .replace(
            "[metrics]",
            "second_alerter = \"https://sqs.eu-west-1.amazonaws.com/000000000000/second\"\n\
             standby = { alerter = \"https://sqs.us-west-2.amazonaws.com/000000000000/standby\" }\n[metrics]",
        )
        .replace("[notify.oncall]", "[notify.oncall]\ntopic = \"arn:aws:sns:us-east-1:000000000000:pages\"");
    let config = Config::parse(text.as_bytes(), Path::new("c.toml")).unwrap();
    let of = |stage, site: Option<&str>| -> Vec<String> {
        let wanted = wanted(&config, Some(stage), site).into_iter();
        let of = wanted.map(|(place, call)| {
            let (action, subject) =
                (call.action(), call.subject().rsplit(['/', ':']).next().unwrap().to_owned());
            format!("{place} {action} {subject}").trim().replace("  ", " ")
        });
        of.filter(|line| !line.contains("GetCallerIdentity")).collect::<BTreeSet<_>>().into_iter().collect()
    };
    let sends = ["alerter", "publisher", "second", "standby"].map(|queue| format!("sqs:SendMessage {queue}"));
    let reads = |queue: &str| {
        ["ChangeMessageVisibility", "DeleteMessage", "ReceiveMessage"].map(|of| format!("sqs:{of} {queue}"))
    };
    let sorted = |parts: &[&[String]]| {
        let all: BTreeSet<String> = parts.iter().flat_map(|part| part.iter().cloned()).collect();
        all.into_iter().collect::<Vec<_>>()
    };
    let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();

    let poll = owned(&["us-east-1 ec2:DescribeVpnConnections", "us-east-1 sns:Publish gasp"]);
    assert_eq!(of(CallingStage::Collector, Some("us-east-1")), sorted(&[&sends, &poll]));
    let poll = owned(&["eu-west-1 as arn:aws:iam::123456789012:role/reader ec2:DescribeVpnConnections"]);
    assert_eq!(of(CallingStage::Collector, Some("eu-west-1")), sorted(&[&sends, &poll]));

    let put = owned(&["cloudwatch:PutMetricData Crosswatch"]);
    assert_eq!(of(CallingStage::Publisher, None), sorted(&[&reads("publisher"), &put]));

    let told = owned(&[
        "sns:CheckIfPhoneNumberIsOptedOut +15555550100",
        "sns:GetSMSAttributes",
        "sns:GetSMSSandboxAccountStatus",
        "sns:Publish +15555550100",
        "us-east-1 sns:Publish pages",
    ]);
    let peer = owned(&["sqs:SendMessage second"]);
    let expected = sorted(&[&reads("alerter"), &reads("standby"), &peer, &put, &told]);
    assert_eq!(of(CallingStage::Alerter, None), expected);
    let peer = owned(&["sqs:SendMessage alerter"]);
    assert_eq!(of(CallingStage::SecondAlerter, None), sorted(&[&reads("second"), &peer, &put, &told]));
}
