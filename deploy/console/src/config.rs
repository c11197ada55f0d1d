//! The console's configuration: the section `page`.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crosswatch_shared::config::document::Table;
use crosswatch_shared::config::values::short;

/// The port where the config names none.
pub const PORT: u16 = 8420;

/// The shortest token: what can be guessed within a year must not be one.
const SHORTEST: usize = 16;
/// The longest.
const LONGEST: u64 = 1024;

/// The page, where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where it listens; `None`: at 8420 of loopback, or any free port where another process has that.
    pub listen: Option<SocketAddr>,
    /// The file that holds the token; `None` on loopback alone.
    pub token_file: Option<PathBuf>,
    /// Names under which it is asked for, beside addresses of loopback and `localhost`.
    pub hosts: Vec<String>,
}

/// The token's file cannot be used; trying again helps once somebody has put it right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("[page] token_file {}: {problem}", .file.display())]
pub struct TokenError {
    file: PathBuf,
    problem: String,
}

impl Config {
    /// Takes the section: `Some(None)` without it, `None` when something in it is wrong, which is noted then.
    pub fn take(root: &mut Table<'_>) -> Option<Option<Self>> {
        let Some(mut page) = root.section("page")? else {
            return Some(None);
        };
        let folder = page.folder();
        let token_file = page.maybe("token_file", |value| match value.text()? {
            "" => value.wrong("'token_file' names no file; write its path, or leave it out"),
            path => Some(folder.join(path)),
        });
        let has_token = !matches!(token_file, Some(None));
        let listen = page.maybe("listen", |value| {
            let listen: SocketAddr = value.parsed("127.0.0.1:8420", |text| {
                text.parse().map_err(|_| {
                    format!(
                        "'{}' is not an address with a port; write one such as \"127.0.0.1:8420\" (port 0 takes a free one)",
                        short(text)
                    )
                })
            })?;
            if !listen.ip().is_loopback() && !has_token {
                return value.wrong(format!(
                    "{listen} can be reached from other machines, and the page tells everybody how the network is made; \
                     write token_file = \"page.token\" with a secret in that file, or listen on 127.0.0.1"
                ));
            }
            Some(listen)
        });
        let hosts = page.or("hosts", Vec::new(), |value| {
            value.each("[\"status.example.com\"]", |value| value.parsed("status.example.com", host))
        });
        page.finish();
        Some(Some(Self { listen: listen?, token_file: token_file?, hosts: hosts? }))
    }
}

fn host(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if !text.is_empty() && text.len() <= 253 && text.chars().all(allowed) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!(
            "'{}' is not a host's name without its port; write one such as \"status.example.com\"",
            short(text)
        ))
    }
}

/// Reads the token, anew each time, so that it can be replaced.
///
/// # Errors
/// The file cannot be read, or what it holds is no token; what it holds is not told.
pub fn token(file: &Path) -> Result<String, TokenError> {
    read(file).map_err(|problem| TokenError { file: file.to_owned(), problem })
}

fn read(file: &Path) -> Result<String, String> {
    let readable = "see that it is there and may be read by the alerter's user";
    let length = fs::metadata(file).map_err(|error| format!("{error}; {readable}"))?.len();
    if length > LONGEST {
        return Err(format!("it holds {length} bytes; a token is one line of {LONGEST} at most"));
    }
    let text = fs::read(file).map_err(|error| format!("{error}; {readable}"))?;
    let token = text.trim_ascii();
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err("it holds more than one word of ASCII; write the token alone into it".to_owned());
    }
    if token.len() < SHORTEST {
        return Err(format!(
            "the token has less than {SHORTEST} characters; make one with: openssl rand -hex 32"
        ));
    }
    Ok(String::from_utf8_lossy(token).into_owned())
}

#[cfg(test)]
mod tests {
    use crosswatch_shared::config;

    use super::*;

    fn parse(text: &str) -> Result<Option<Config>, String> {
        config::read(Path::new("conf/crosswatch.toml"), text.as_bytes(), Config::take)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn without_the_section_there_is_no_page_and_an_empty_one_is_on_loopback() {
        assert_eq!(parse(""), Ok(None));
        assert_eq!(parse("[page]"), Ok(Some(Config { listen: None, token_file: None, hosts: Vec::new() })));
        let whole = "[page]\nlisten = \"0.0.0.0:8420\"\ntoken_file = \"page.token\"\nhosts = [\"Status.example.com\"]";
        let whole = parse(whole).unwrap().unwrap();
        assert_eq!(whole.token_file.as_deref(), Some(Path::new("conf/page.token")));
        assert_eq!(whole.hosts, ["status.example.com"]);
    }

    #[test]
    fn what_other_machines_can_reach_wants_a_token() {
        for listen in ["0.0.0.0:8420", "[::]:8420", "10.0.0.1:80"] {
            let error = parse(&format!("[page]\nlisten = \"{listen}\"")).unwrap_err();
            assert!(error.contains("crosswatch.toml:2:") && error.contains("token_file"), "{error}");
        }
        assert!(parse("[page]\nlisten = \"[::1]:8420\"").is_ok());
        for wrong in
            ["listen = \"8420\"", "listen = 1", "hosts = [\"a b\"]", "token_file = \"\"", "lisen = \"\""]
        {
            assert!(parse(&format!("[page]\n{wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_one_long_word_and_no_error_shows_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        assert!(token(&file).unwrap_err().to_string().contains("No such file"));
        std::fs::write(&file, " 0123456789abcdef\n").unwrap();
        assert_eq!(token(&file).unwrap(), "0123456789abcdef");
        for wrong in ["", "hush", "hush hush hush hush hush", &"hush".repeat(300)] {
            std::fs::write(&file, wrong).unwrap();
            let error = token(&file).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
