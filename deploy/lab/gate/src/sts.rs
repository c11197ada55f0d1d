//! STS: roles are assumed for the asking; whose they are is seen in the credentials.
//!
//! The access key given out is the account's number, by which the emulator and the gate tell accounts apart; the
//! session token is the ARN of the assumed role. Who may assume which role is not modelled: order a fault to deny one.

use std::time::Duration;

use crosswatch_shared::time::Timestamp;

use crate::answer::{Answer, Refusal, escape};
use crate::call::Call;

pub(crate) fn answer(call: &Call, now: Timestamp) -> Result<Answer, Refusal> {
    match call.operation.as_str() {
        "AssumeRole" => assume_role(call, now),
        "GetCallerIdentity" => {
            let user = format!("arn:aws:iam::{}:user/gate", call.account);
            let arn = escape(call.session.as_deref().unwrap_or(&user));
            let account = &call.account;
            Ok(result(
                "GetCallerIdentity",
                &format!("<Arn>{arn}</Arn><UserId>AIDAGATE{account}</UserId><Account>{account}</Account>"),
            ))
        }
        other => Err(Refusal::new(400, "InvalidAction", format!("Could not find operation {other}"))),
    }
}

fn assume_role(call: &Call, now: Timestamp) -> Result<Answer, Refusal> {
    let invalid = |message: String| Refusal::new(400, "ValidationError", message);
    let arn = call.text("RoleArn").unwrap_or("");
    let (account, role) = role(arn).ok_or_else(|| invalid(format!("{arn} is invalid")))?;
    let name = call.text("RoleSessionName").unwrap_or("");
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    if !(2..=64).contains(&name.len()) || !name.chars().all(allowed) {
        return Err(invalid(format!(
            "1 validation error detected: Value '{name}' at 'roleSessionName' failed to satisfy constraint"
        )));
    }
    let seconds = call.text("DurationSeconds").unwrap_or("3600");
    let seconds =
        seconds.parse().ok().filter(|seconds| (900..=43_200).contains(seconds)).ok_or_else(|| {
            invalid(format!("1 validation error detected: Value '{seconds}' at 'durationSeconds' failed"))
        })?;
    let session = format!("arn:aws:sts::{account}:assumed-role/{role}/{name}");
    Ok(result(
        "AssumeRole",
        &format!(
            "<AssumedRoleUser><AssumedRoleId>AROAGATE{account}:{name}</AssumedRoleId><Arn>{session}</Arn></AssumedRoleUser>\
             <Credentials><AccessKeyId>{account}</AccessKeyId><SecretAccessKey>of-the-gate</SecretAccessKey>\
             <SessionToken>{session}</SessionToken><Expiration>{}</Expiration></Credentials>",
            now + Duration::from_secs(seconds)
        ),
    ))
}

/// Account and name of a role.
fn role(arn: &str) -> Option<(&str, &str)> {
    let (account, resource) = arn.strip_prefix("arn:aws:iam::")?.split_once(':')?;
    let name = resource.strip_prefix("role/")?.rsplit('/').next()?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@-".contains(c);
    let number = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    (number && !name.is_empty() && name.chars().all(allowed)).then_some((account, name))
}

fn result(operation: &str, inner: &str) -> Answer {
    Answer::result("https://sts.amazonaws.com/doc/2011-06-15/", operation, inner)
}
