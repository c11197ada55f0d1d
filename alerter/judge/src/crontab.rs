//! Crontabs: the times of five fields by the clocks of a zone. Pure.
//!
//! On a day on which the clocks go forward, a time that they leave out is the moment at which they do: what recurs once a day or once a
//! week leaves no time out. On one on which they go back, a time that they show twice is the first of the two. What recurs in whichever
//! hour there is, whose second field begins with `*`, goes by the hours that pass: one that is left out has no times, and one that
//! is repeated has them again.

use cronexpr::MakeTimestamp;
use crosswatch_shared::time::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// The times of a crontab.
#[derive(Clone, Debug)]
pub struct Crontab {
    fields: cronexpr::Crontab,
    /// Whose clocks show the times of the fields, which are those of UTC then; `None` where the fields have the zone themselves.
    clocks: Option<TimeZone>,
}

impl Crontab {
    /// Of five fields, and an IANA time zone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(fields: &str, zone: &str) -> Result<Self, String> {
        let count = fields.split_whitespace().count();
        if count != 5 {
            return Err(format!(
                "a crontab has five fields, minute hour day month weekday, such as \"0 2 * * SUN\", not {count}"
            ));
        }
        // One line, where the library points at the place over several.
        let line = |error: cronexpr::Error| {
            let text = error.to_string();
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let of = |zone: &str| cronexpr::parse_crontab(&format!("{fields} {zone}")).map_err(line);
        let in_zone = of(zone)?;
        if fields.split_whitespace().nth(1).is_some_and(|hours| hours.starts_with('*')) {
            return Ok(Self { fields: in_zone, clocks: None });
        }
        // As it reads them: an offset is a zone, too.
        let clocks = DateTimeParser::new().parse_time_zone(zone).map_err(|error| error.to_string())?;
        Ok(Self { fields: of("UTC")?, clocks: Some(clocks) })
    }

    /// Its times after this one, in their order.
    pub fn after(&self, after: Timestamp) -> impl Iterator<Item = Timestamp> + use<'_> {
        let from = jiff::Timestamp::from_microsecond(after.as_micros()).ok().and_then(|after| {
            let Some(clocks) = &self.clocks else { return Some(after) };
            TimeZone::UTC.to_timestamp(clocks.to_datetime(after)).ok()
        });
        let times = from.and_then(|from| self.fields.iter_after(MakeTimestamp(from)).ok());
        let times = times.into_iter().flatten().map_while(|time| {
            let time = time.ok()?;
            let time = match &self.clocks {
                Some(clocks) => shown(clocks, time.datetime())?,
                None => time.timestamp(),
            };
            Some(Timestamp::from_micros(time.as_microsecond()))
        });
        // Several may be left out at once, and what is shown for the second time may have been when it was shown first.
        let mut last = after;
        times.filter(move |time| {
            let is_new = *time > last;
            last = last.max(*time);
            is_new
        })
    }
}

/// When these clocks show this, first; when they go forward over it.
fn shown(clocks: &TimeZone, what: DateTime) -> Option<jiff::Timestamp> {
    let time = clocks.to_ambiguous_timestamp(what);
    match time.offset() {
        AmbiguousOffset::Gap { after, .. } => {
            // By the later clocks it would have been before they went forward.
            let before = after.to_timestamp(what).ok()?;
            clocks.following(before).next().map(|change| change.timestamp())
        }
        _ => time.compatible().ok(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Its times within these days.
    fn times(fields: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
        let to = at(&format!("{to}T00:00:00Z"));
        let tab = Crontab::new(fields, zone).unwrap();
        let times = tab.after(at(&format!("{from}T00:00:00Z"))).take_while(|time| *time < to);
        times.map(|time| time.to_string().replace(":00.000000Z", "Z")).collect()
    }

    #[test]
    fn what_the_clocks_leave_out_is_when_they_go_forward() {
        let berlin = |fields: &str| times(fields, "Europe/Berlin", "2027-03-27", "2027-03-29");
        assert_eq!(berlin("0 2 * * *"), ["2027-03-27T01:00Z", "2027-03-28T01:00Z"]);
        assert_eq!(berlin("30 2 * * SUN"), ["2027-03-28T01:00Z"]);
        assert_eq!(berlin("*/30 1-3 * * SUN").len(), 4, "each moment once");
        // At midnight, and by half an hour.
        assert_eq!(times("0 0 5 9 *", "America/Santiago", "2027-09-05", "2027-09-06"), ["2027-09-05T04:00Z"]);
        assert_eq!(
            times("0 2 3 10 *", "Australia/Lord_Howe", "2027-10-02", "2027-10-04"),
            ["2027-10-02T15:30Z"]
        );
        let hourly = berlin("0 * * * SUN");
        assert_eq!(hourly.len(), 23, "an hour that there is not has no time: {hourly:?}");
    }

    #[test]
    fn what_the_clocks_show_twice_is_the_first_of_the_two() {
        let berlin = |fields: &str| times(fields, "Europe/Berlin", "2027-10-30", "2027-11-01");
        assert_eq!(berlin("0 2 * * SUN"), ["2027-10-31T00:00Z"]);
        assert_eq!(berlin("30 2,3 * * SUN"), ["2027-10-31T00:30Z", "2027-10-31T02:30Z"]);
        let hourly = berlin("0 * * * SUN");
        assert_eq!(hourly.len(), 25, "an hour that is repeated has its time again: {hourly:?}");
        // Asked for from within the second.
        let tab = Crontab::new("45 2 * * *", "Europe/Berlin").unwrap();
        assert_eq!(tab.after(at("2027-10-31T01:30:00Z")).next(), Some(at("2027-11-01T01:45:00Z")));
    }

    #[test]
    fn what_never_comes_has_no_times() {
        assert_eq!(times("0 2 30 2 *", "Europe/Berlin", "2027-01-01", "2031-01-01"), [""; 0]);
    }

    proptest! {
        /// A daily one comes once every day, in order and whoever asks when, whatever the clocks do.
        #[test]
        fn a_time_of_the_day_comes_once_a_day_wherever_that_is(
            minute in 0..60_u8,
            hour in 0..24_u8,
            from in 1_790_000_000_i64..1_900_000_000,
            zone in proptest::sample::select(&["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"][..]),
        ) {
            let tab = Crontab::new(&format!("{minute} {hour} * * *"), zone).unwrap();
            let times: Vec<Timestamp> = tab.after(Timestamp::from_secs(from)).take(40).collect();
            prop_assert_eq!(times.len(), 40);
            for two in times.windows(2) {
                let hours = two[1].since(two[0]).as_secs_f64() / 3_600.0;
                prop_assert!((22.0..=26.0).contains(&hours), "{hours} h between {} and {}", two[0], two[1]);
                prop_assert_eq!(tab.after(two[0]).next(), Some(two[1]));
                prop_assert_eq!(tab.after(two[1] - std::time::Duration::from_secs(1)).next(), Some(two[1]));
            }
        }
    }
}
