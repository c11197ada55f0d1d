//! Amazon SQS as a queue of batches: the text that a batch travels as ([`body`]), its sending ([`send`]) and its receiving
//! ([`receive`]).

pub mod body;
pub mod receive;
pub mod send;

mod way_out;

pub use way_out::way_out;
