//! Composite alarms: rule expressions over the states of other alarms, as [PutCompositeAlarm] takes them.
//!
//! `ALARM("name")`, `OK("name")`, `INSUFFICIENT_DATA("name")`, `TRUE`, `FALSE`, `NOT`, `AND`, `OR` and parentheses; `NOT`
//! binds closer than `AND`, and that closer than `OR`. A name may be an ARN, and needs no quotes while it holds neither
//! white space nor parentheses.
//!
//! [PutCompositeAlarm]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutCompositeAlarm.html

use std::collections::BTreeSet;

use crate::State;

/// The longest expression, in characters.
pub const LENGTH: usize = 10_240;

/// The most alarms that an expression may name.
pub const CHILDREN: usize = 100;

/// The most elements of an expression: alarms, `TRUE`, `FALSE`, and parentheses, of which a pair counts as one.
pub const ELEMENTS: usize = 500;

/// Why an expression is refused. Trying again cannot help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Too long.
    #[error("the rule expression has {length} characters; at most {LENGTH} are allowed")]
    Long {
        /// How long.
        length: usize,
    },
    /// Too many alarms.
    #[error("the rule expression names {children} alarms; at most {CHILDREN} are allowed")]
    Children {
        /// How many.
        children: usize,
    },
    /// Too many elements.
    #[error("the rule expression has more than {ELEMENTS} elements")]
    Elements,
    /// Not of the grammar.
    #[error("the rule expression, at character {at}: {expected} is expected, not {found}")]
    Syntax {
        /// Where, from 1.
        at: usize,
        /// What may stand there.
        expected: &'static str,
        /// What does.
        found: String,
    },
}

/// A rule expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule(Node);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Is(State, String),
    Constant(bool),
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
}

/// Reads an expression.
///
/// # Errors
/// When it is not of the grammar, or beyond a limit.
pub fn parse(text: &str) -> Result<Rule, Error> {
    let length = text.chars().count();
    if length > LENGTH {
        return Err(Error::Long { length });
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, length, elements: 0, nots: 0 };
    let rule = Rule(parser.any()?);
    if parser.next < parser.tokens.len() {
        return Err(parser.wrong("AND, OR or the end"));
    }
    let children = rule.children().len();
    if children > CHILDREN {
        return Err(Error::Children { children });
    }
    Ok(rule)
}

impl Rule {
    /// The composite's state, given that of each child by its name or ARN as it is written.
    pub fn evaluate(&self, mut state: impl FnMut(&str) -> State) -> State {
        if self.0.holds(&mut state) { State::Alarm } else { State::Ok }
    }

    /// The alarms that it names, each once.
    #[must_use]
    pub fn children(&self) -> BTreeSet<&str> {
        let mut children = BTreeSet::new();
        self.0.children(&mut children);
        children
    }
}

impl Node {
    fn holds(&self, state: &mut impl FnMut(&str) -> State) -> bool {
        match self {
            Self::Is(wanted, name) => state(name) == *wanted,
            Self::Constant(constant) => *constant,
            Self::Not(node) => !node.holds(state),
            Self::And(nodes) => nodes.iter().all(|node| node.holds(state)),
            Self::Or(nodes) => nodes.iter().any(|node| node.holds(state)),
        }
    }

    fn children<'a>(&'a self, children: &mut BTreeSet<&'a str>) {
        match self {
            Self::Is(_, name) => {
                children.insert(name);
            }
            Self::Constant(_) => {}
            Self::Not(node) => node.children(children),
            Self::And(nodes) | Self::Or(nodes) => nodes.iter().for_each(|node| node.children(children)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    Word(String),
    Quoted(String),
}

/// The tokens, each with its place.
fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Error> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().enumerate().peekable();
    while let Some((at, c)) = chars.next() {
        let token = match c {
            _ if c.is_whitespace() => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            '"' => {
                let mut name = String::new();
                loop {
                    match chars.next() {
                        Some((_, '"')) => break Token::Quoted(name),
                        // A quote within a name stands behind a backslash.
                        Some((_, '\\')) if chars.peek().is_some_and(|(_, c)| matches!(c, '"' | '\\')) => {
                            name.extend(chars.next().map(|(_, c)| c));
                        }
                        Some((_, c)) => name.push(c),
                        None => {
                            let found = "the end of the text".to_owned();
                            return Err(Error::Syntax { at: at + 1, expected: "a closing quote", found });
                        }
                    }
                }
            }
            _ => {
                let mut word = String::from(c);
                let goes_on = |c: char| !c.is_whitespace() && !matches!(c, '(' | ')' | '"');
                while let Some((_, c)) = chars.next_if(|(_, c)| goes_on(*c)) {
                    word.push(c);
                }
                Token::Word(word)
            }
        };
        tokens.push((at + 1, token));
    }
    Ok(tokens)
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    length: usize,
    elements: usize,
    nots: usize,
}

impl Parser {
    fn any(&mut self) -> Result<Node, Error> {
        let first = self.all()?;
        let mut nodes = vec![first];
        while self.takes("OR") {
            nodes.push(self.all()?);
        }
        Ok(one_or(nodes, Node::Or))
    }

    fn all(&mut self) -> Result<Node, Error> {
        let first = self.one()?;
        let mut nodes = vec![first];
        while self.takes("AND") {
            nodes.push(self.one()?);
        }
        Ok(one_or(nodes, Node::And))
    }

    fn one(&mut self) -> Result<Node, Error> {
        const ONE: &str = "ALARM(…), OK(…), INSUFFICIENT_DATA(…), TRUE, FALSE, NOT or '('";
        if self.takes("NOT") {
            // They nest as parentheses do, and so does this.
            self.nots += 1;
            if self.nots > ELEMENTS {
                return Err(Error::Elements);
            }
            return Ok(Node::Not(Box::new(self.one()?)));
        }
        let Some((_, token)) = self.tokens.get(self.next).cloned() else {
            return Err(self.wrong(ONE));
        };
        let state = match &token {
            Token::Open => None,
            Token::Word(word) => match word.as_str() {
                "ALARM" => Some(State::Alarm),
                "OK" => Some(State::Ok),
                "INSUFFICIENT_DATA" => Some(State::InsufficientData),
                "TRUE" | "FALSE" => {
                    self.element()?;
                    self.next += 1;
                    return Ok(Node::Constant(word == "TRUE"));
                }
                _ => return Err(self.wrong(ONE)),
            },
            _ => return Err(self.wrong(ONE)),
        };
        self.element()?;
        self.next += 1;
        let node = match state {
            None => self.any()?,
            Some(state) => {
                self.need(&Token::Open, "'('")?;
                let name = match self.tokens.get(self.next) {
                    Some((_, Token::Word(name) | Token::Quoted(name))) if !name.is_empty() => name.clone(),
                    _ => return Err(self.wrong("an alarm's name")),
                };
                self.next += 1;
                Node::Is(state, name)
            }
        };
        self.need(&Token::Close, "')'")?;
        Ok(node)
    }

    /// Bounds the depth, too.
    fn element(&mut self) -> Result<(), Error> {
        self.elements += 1;
        if self.elements > ELEMENTS { Err(Error::Elements) } else { Ok(()) }
    }

    fn takes(&mut self, word: &str) -> bool {
        let takes = matches!(self.tokens.get(self.next), Some((_, Token::Word(next))) if next == word);
        self.next += usize::from(takes);
        takes
    }

    fn need(&mut self, token: &Token, expected: &'static str) -> Result<(), Error> {
        match self.tokens.get(self.next) {
            Some((_, next)) if next == token => {
                self.next += 1;
                Ok(())
            }
            _ => Err(self.wrong(expected)),
        }
    }

    fn wrong(&self, expected: &'static str) -> Error {
        let (at, found) = match self.tokens.get(self.next) {
            Some((at, Token::Open)) => (*at, "'('".to_owned()),
            Some((at, Token::Close)) => (*at, "')'".to_owned()),
            Some((at, Token::Word(word))) => (*at, format!("'{word}'")),
            Some((at, Token::Quoted(name))) => (*at, format!("\"{name}\"")),
            None => (self.length + 1, "the end of the text".to_owned()),
        };
        Error::Syntax { at, expected, found }
    }
}

fn one_or(mut nodes: Vec<Node>, many: fn(Vec<Node>) -> Node) -> Node {
    match nodes.pop() {
        Some(node) if nodes.is_empty() => node,
        Some(node) => {
            nodes.push(node);
            many(nodes)
        }
        None => many(nodes),
    }
}
