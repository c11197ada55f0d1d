use super::*;
use crate::config::Template;
use crate::testing::{Answer, BOUND, Endpoint, OK};

mod templates;

const SHORT: Duration = Duration::from_millis(200);

fn command(words: &[&str], within: Duration) -> Notifier {
    let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
    Notifier::Command(command::Command::new(&words, within))
}

fn plain(url: &str, within: Duration) -> webhook::Webhook {
    webhook::Webhook::new(&Secret::Value(url.to_owned()), &Template::Plain, within).unwrap()
}

#[tokio::test]
async fn a_webhook_accepts_with_2xx_alone() {
    let elsewhere = Endpoint::start([]).await;
    let to_other_host = format!("location: {}\r\n", elsewhere.url.replace("127.0.0.1", "localhost"));
    let answers = [
        Answer::Status(500, "", "try  later\n"),
        Answer::Status(302, "location: /other\r\n", ""),
        Answer::Status(307, to_other_host.leak(), ""),
        Answer::Close,
        Answer::Hang,
        Answer::Status(204, "", ""),
    ];
    let mut endpoint = Endpoint::start(answers).await;
    let fails = [
        "refused with status 500: try later",
        "refused with status 302: ",
        "refused with status 307: ",
        "no answer: ",
        "no answer: ",
    ];
    for wanted in fails {
        let within = if endpoint.requests.len() == 4 { SHORT } else { BOUND };
        let webhook = Notifier::Webhook(plain(&endpoint.url, within));
        let error = webhook.send("{}").await.unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error} is not {wanted}");
        assert!(!error.contains("secret"), "{error}");
    }
    let webhook = Notifier::Webhook(plain(&endpoint.url, BOUND));
    webhook.send(r#"{"a":1}"#).await.unwrap();
    for _ in fails {
        endpoint.requests.recv().await.unwrap();
    }
    let request = endpoint.requests.recv().await.unwrap();
    assert!(request.starts_with("POST /hook?key=secret HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("content-type: application/json\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n{\"a\":1}"), "{request}");
    assert!(elsewhere.requests.is_empty(), "what is told to one host goes to no other");
}

#[tokio::test]
async fn a_webhook_follows_where_the_post_stays_one_on_the_same_host() {
    let moved = Answer::Status(308, "location: /new\r\n", "");
    let mut endpoint = Endpoint::start([moved, OK]).await;
    let webhook = Notifier::Webhook(plain(&endpoint.url, BOUND));
    webhook.send("{}").await.unwrap();
    endpoint.requests.recv().await.unwrap();
    let request = endpoint.requests.recv().await.unwrap();
    assert!(request.starts_with("POST /new "), "{request}");
    assert!(request.ends_with("\r\n\r\n{}"), "{request}");
}

#[tokio::test]
async fn a_webhook_that_nobody_answers_for_is_an_error() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let webhook = Notifier::Webhook(plain(&format!("http://127.0.0.1:{port}/"), BOUND));
    let error = webhook.send("{}").await.unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");
    assert!(webhook::Webhook::new(&Secret::Value("not a url".to_owned()), &Template::Plain, BOUND).is_err());
}

#[tokio::test]
async fn a_command_gets_the_json_and_accepts_with_exit_0() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("got $(touch wrong)");
    let words = ["sh", "-c", "cat > \"$1\"; echo told", "notify", file.to_str().unwrap()];
    command(&words, BOUND).send(r#"{"a":1}"#).await.unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "{\"a\":1}\n");
    assert!(!folder.path().join("wrong").exists());
}

#[tokio::test]
async fn a_command_need_not_read_what_it_is_told() {
    let large = "x".repeat(4 << 20);
    command(&["true"], BOUND).send(&large).await.unwrap();
    let error = command(&["sh", "-c", "exec <&-; echo no >&2; echo way >&2; exit 3"], BOUND)
        .send(&large)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "'sh' ended with exit status: 3: no way");
}

#[tokio::test]
async fn a_command_that_is_missing_is_named() {
    let error = command(&["/no/such/program"], BOUND).send("{}").await.unwrap_err().to_string();
    assert!(error.starts_with("cannot run '/no/such/program': No such file"), "{error}");
    assert!(command(&[], BOUND).send("{}").await.is_err());
}

#[tokio::test]
async fn a_command_that_hangs_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = "sleep 1000 & echo $! > \"$1.new\"; mv \"$1.new\" \"$1\"; wait";
    // However short its time is, this test needs it to have come that far.
    let pid = loop {
        let hangs = command(&["sh", "-c", script, "notify", file.to_str().unwrap()], SHORT);
        let error = hangs.send("{}").await.unwrap_err();
        assert!(matches!(error, NotifyError::TooLong { .. }), "{error}");
        if let Ok(pid) = std::fs::read_to_string(&file) {
            break pid.trim().to_owned();
        }
    };
    let gone = async {
        loop {
            // A dead process may stay in the table until its new parent looks.
            match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
                Ok(stat) if !stat.contains(") Z ") => tokio::task::yield_now().await,
                _ => return,
            }
        }
    };
    tokio::time::timeout(BOUND, gone).await.expect("it is still there");
}
