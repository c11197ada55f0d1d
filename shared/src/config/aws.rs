//! What AWS calls things: regions and ARNs as a config may hold them.

use super::values::short;

/// The shape of a topic's ARN, for messages.
pub const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:NAME";

/// A region, such as `us-east-1`.
///
/// # Errors
/// Says what is wrong and what to write.
pub fn region(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !text.is_empty() && text.len() <= 64 && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!("'{}' is not an AWS region; write one such as \"us-east-1\"", short(text)))
    }
}

/// The ARN of an SNS topic: `arn:PARTITION:sns:REGION:ACCOUNT:NAME`.
///
/// # Errors
/// Says what is wrong and what to write.
pub fn topic(text: &str) -> Result<String, String> {
    match parts(text).as_slice() {
        ["sns", .., name] if name.ends_with(".fifo") => Err(format!(
            "'{}' is a FIFO topic, which sends no SMS or mail; write a standard topic's ARN",
            short(text)
        )),
        ["sns", region, account, name]
            if !region.is_empty() && is_account(account) && !name.contains(':') =>
        {
            Ok(text.to_owned())
        }
        _ => Err(format!("'{}' is not the ARN of an SNS topic, such as \"{TOPIC}\"", short(text))),
    }
}

/// The ARN of an IAM role: `arn:PARTITION:iam::ACCOUNT:role/NAME`.
///
/// # Errors
/// Says what is wrong and what to write.
pub fn role(text: &str) -> Result<String, String> {
    match parts(text).as_slice() {
        ["iam", "", account, name] if is_account(account) && name.starts_with("role/") && name.len() > 5 => {
            Ok(text.to_owned())
        }
        _ => Err(format!(
            "'{}' is not the ARN of an IAM role, such as \"arn:aws:iam::123456789012:role/NAME\"",
            short(text)
        )),
    }
}

/// The region in an ARN that has one.
#[must_use]
pub fn region_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(3).filter(|region| !region.is_empty())
}

/// Service, region, account and the rest of an ARN; nothing where it is none.
fn parts(text: &str) -> Vec<&str> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    match parts.as_slice() {
        ["arn", partition, service, region, account, rest]
            if partition.starts_with("aws")
                && !rest.is_empty()
                && text.chars().all(|c| c.is_ascii_graphic()) =>
        {
            vec![service, region, account, rest]
        }
        _ => Vec::new(),
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_are_told_from_what_looks_like_them() {
        assert!(topic(TOPIC).is_ok());
        assert!(topic("arn:aws-cn:sns:cn-north-1:123456789012:a").is_ok());
        for text in [
            "",
            "oncall",
            "arn:aws:sqs:us-east-1:123456789012:a",
            "arn:aws:sns::123456789012:a",
            "arn:aws:sns:us-east-1:1234:a",
            "arn:aws:sns:us-east-1:123456789012:",
            "arn:aws:sns:us-east-1:123456789012:a:b",
            "arn:aws:sns:us-east-1:123456789012:a b",
        ] {
            assert!(topic(text).is_err(), "{text}");
        }
        assert!(role("arn:aws:iam::123456789012:role/path/reader").is_ok());
        for text in ["arn:aws:iam::123456789012:user/a", "arn:aws:iam::123456789012:role/", "role/a"] {
            assert!(role(text).is_err(), "{text}");
        }
        assert_eq!(region_of(TOPIC), Some("us-east-1"));
        assert_eq!(region_of("arn:aws:iam::123456789012:role/a"), None);
    }
}
