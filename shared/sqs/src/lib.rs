//! Amazon SQS as a queue of batches: the text that a batch travels as ([`body`]), and, as they are built, its sending and
//! its receiving ([`receive`]).

pub mod body;
pub mod receive;
