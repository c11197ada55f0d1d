//! What docs/incidents.md says of each fault of the lab: its tables, read by the test that tries them.

use serde_json::Value;

const DOCUMENT: &str = include_str!("../../docs/incidents.md");

/// What a table's head begins with.
const HEAD: &str = "| `lab fault …` |";

/// The document's three tables.
pub(crate) struct Tables {
    /// For a lab without tunnels.
    pub(crate) plain: Vec<Row>,
    /// For one with tunnels.
    pub(crate) tunnels: Vec<Row>,
    /// Faults that last until a sign of life is missed.
    pub(crate) lasting: Vec<Row>,
}

/// A row of a table.
#[derive(Debug)]
pub(crate) struct Row {
    /// `loss --percent 60`; several are made one after the other and last together.
    pub(crate) faults: Vec<String>,
    /// What is told of it directly; `None` where nothing is.
    pub(crate) told: Option<Told>,
    /// The alarms that page.
    pub(crate) alarms: Vec<String>,
    /// Those that may page besides.
    pub(crate) at_times: Vec<String>,
    /// What the metrics show; what no entry is about stays as it is.
    pub(crate) shows: Vec<Shows>,
}

/// An incident.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) place: String,
    /// Those that it may have while the fault lasts; none where it is told only when that is over.
    pub(crate) verdicts: Vec<String>,
    /// One of these its end is told with.
    pub(crate) end: Vec<String>,
}

/// What is seen of some series: `PingSuccess Site=eu-west-1 0`.
#[derive(Debug)]
pub(crate) struct Shows {
    /// Any where it is `None`.
    metric: Option<String>,
    dimension: Option<(String, String)>,
    pub(crate) seen: Seen,
}

/// What is seen in the periods within a fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Seen {
    /// The average of a period, of round trips the shortest, is from here to there.
    Average(f64, f64),
    /// There is no datapoint, nor will there ever be.
    Nothing,
    /// There is none while the fault lasts; afterwards there are all.
    Late,
}

impl Tables {
    pub(crate) fn read() -> Self {
        let mut tables = DOCUMENT.split(HEAD).skip(1).map(|table| {
            let rows = table.lines().skip(2).map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
            rows.map(Row::read).collect()
        });
        let [plain, tunnels, lasting] = [(); 3].map(|()| tables.next().expect("three tables"));
        assert!(tables.next().is_none());
        Self { plain, tunnels, lasting }
    }
}

impl Row {
    fn read(row: &str) -> Self {
        let cells: Vec<_> = row.split(" | ").collect();
        let [faults, place, verdicts, end, alarms, shows]: [&str; 6] = cells.try_into().expect("six columns");
        let (alarms, at_times) = alarms.split_once(", at times ").unwrap_or((alarms, ""));
        let [faults, place, verdicts, end, alarms, at_times, shows] =
            [faults, place, verdicts, end, alarms, at_times, shows].map(words);
        let told = match (&place[..], &end[..]) {
            ([place], [_, ..]) => Some(Told { place: place.clone(), verdicts, end }),
            _ => {
                assert!(place.is_empty() && verdicts.is_empty() && end.is_empty(), "{row}");
                None
            }
        };
        assert!(!faults.is_empty(), "{row}");
        Self { faults, told, alarms, at_times, shows: shows.iter().map(|entry| Shows::read(entry)).collect() }
    }

    /// What is seen of a series: the first entry that is about it and says what.
    pub(crate) fn seen_of(&self, series: &Series) -> Option<Seen> {
        let about = self.shows.iter().filter(|shows| shows.is_about(series)).map(|shows| shows.seen);
        let mut about = about.filter(|seen| *seen != Seen::Late);
        about.next()
    }

    /// Whether nothing of a series is there while the fault lasts, whatever is there afterwards.
    pub(crate) fn is_late(&self, series: &Series) -> bool {
        self.shows.iter().any(|shows| shows.seen == Seen::Late && shows.is_about(series))
    }
}

/// What is written as code in a cell.
fn words(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

impl Shows {
    fn read(entry: &str) -> Self {
        let (of, seen) = entry.rsplit_once(' ').expect("of what, and what is seen");
        let number = |text: &str| text.parse::<f64>().unwrap_or_else(|_| panic!("{entry}: no number"));
        let seen = match (seen, seen.split_once("..")) {
            ("none", _) => Seen::Nothing,
            ("late", _) => Seen::Late,
            (_, Some((from, to))) => Seen::Average(number(from), number(to)),
            (one, None) => Seen::Average(number(one), number(one)),
        };
        let mut shows = Self { metric: None, dimension: None, seen };
        for word in of.split(' ') {
            match word.split_once('=') {
                Some((name, value)) => shows.dimension = Some((name.to_owned(), value.to_owned())),
                None => shows.metric = Some(word.to_owned()).filter(|word| word != "*"),
            }
        }
        shows
    }

    /// Whether it names what there is something of only once a minute.
    pub(crate) fn is_sparse(&self) -> bool {
        self.dimension.as_ref().is_some_and(|(_, value)| is_sparse(value))
    }

    pub(crate) fn is_about(&self, series: &Series) -> bool {
        self.metric.as_ref().is_none_or(|metric| *metric == series.metric)
            && self.dimension.as_ref().is_none_or(|(name, value)| series.dimension(name) == Some(value))
    }
}

/// A metric of one subject.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) metric: String,
    pub(crate) dimensions: Vec<(String, String)>,
}

impl Series {
    /// That of a datapoint, as the gate tells it.
    pub(crate) fn of(point: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let dimensions = point["dimensions"].as_object().unwrap();
        Self {
            metric: text(&point["name"]),
            dimensions: dimensions.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
        }
    }

    pub(crate) fn dimension(&self, name: &str) -> Option<&String> {
        self.dimensions.iter().find(|(of, _)| of == name).map(|(_, value)| value)
    }

    /// Whether there is something of it only once a minute: large packets.
    pub(crate) fn is_sparse(&self) -> bool {
        self.dimension("Probe").is_some_and(|probe| is_sparse(probe))
    }
}

/// Of large packets: `icmp:10.1.0.10@1300`.
fn is_sparse(probe: &str) -> bool {
    probe.contains('@')
}
