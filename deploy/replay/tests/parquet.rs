//! What is written as Parquet is read back as it was seen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::fs::File;

use crosswatch_replay::parquet::Table;
use crosswatch_shared::observation::{Body, Observation, Tunnel};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, RowAccessor};

use world::{at, origin, outcome_of};

fn written(all: &[Observation]) -> SerializedFileReader<File> {
    let mut table = Table::begin(tempfile::tempfile().unwrap()).unwrap();
    all.iter().for_each(|of| table.add(&origin("a"), of).unwrap());
    SerializedFileReader::new(table.end().unwrap()).unwrap()
}

#[test]
fn every_kind_has_its_columns_and_the_rest_as_json() {
    let tunnel = |up: bool| Tunnel {
        outside_ip: "52.1.2.3".to_owned(),
        up,
        accepted_routes: 4,
        since: None,
        message: String::new(),
    };
    let bodies = [
        outcome_of("l", "p", Some(81.7)),
        outcome_of("l", "p", None),
        Body::Tunnels { link: "l".into(), vpn: "vpn-1".into(), tunnels: vec![tunnel(true), tunnel(false)] },
        Body::Tunnels { link: "l".into(), vpn: "vpn-1".into(), tunnels: Vec::new() },
        Body::Collection { source: "icmp".into(), ok: false, error: Some("late".to_owned()), took_ms: 143.5 },
        Body::Drill { id: "drill-1".into(), rule: None },
    ];
    let all: Vec<Observation> =
        (0..).zip(bodies).map(|(seq, body)| Observation { at: at(seq as i64), seq, body }).collect();
    let reader = written(&all);
    let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 6);
    let told = |row: usize, name: &str| {
        let found = rows[row].get_column_iter().find(|(column, _)| *column == name);
        found.unwrap_or_else(|| panic!("{name}")).1.clone()
    };
    let text = |text: &str| Field::Str(text.to_owned());
    for (row, observation) in all.iter().enumerate() {
        assert_eq!(told(row, "time"), Field::TimestampMicros(observation.at.as_micros()));
        assert_eq!(told(row, "seq"), Field::Long(row as i64));
        assert_eq!((told(row, "site"), told(row, "boot")), (text("a"), text("boot-1")));
    }
    assert_eq!(
        (told(0, "kind"), told(0, "rtt_ms"), told(0, "lost")),
        (text("probe"), Field::Double(81.7), Field::Null)
    );
    assert_eq!(
        (told(1, "rtt_ms"), told(1, "lost"), told(1, "json")),
        (Field::Null, text("timeout"), Field::Null)
    );
    assert_eq!((told(2, "vpn"), told(2, "tunnels_up")), (text("vpn-1"), Field::Long(1)));
    assert!(rows[2].get_string(15).unwrap().contains("52.1.2.3"), "{:?}", rows[2]);
    assert_eq!(told(3, "tunnels_up"), Field::Null);
    assert_eq!(
        (told(4, "source"), told(4, "ok"), told(4, "took_ms")),
        (text("icmp"), Field::Bool(false), Field::Double(143.5))
    );
    assert!(rows[4].get_string(15).unwrap().contains("late"));
    assert_eq!((told(5, "kind"), told(5, "link")), (text("drill"), Field::Null));
}

#[test]
fn more_than_a_group_is_read_back_whole_and_nothing_is_a_file_too() {
    let count = 150_000_u64;
    let all: Vec<Observation> = (0..count)
        .map(|seq| Observation { at: at(seq as i64), seq, body: outcome_of("l", "p", Some(seq as f64)) })
        .collect();
    let reader = written(&all);
    assert_eq!((reader.num_row_groups(), reader.metadata().file_metadata().num_rows()), (3, count as i64));
    let seqs = reader.get_row_iter(None).unwrap().map(|row| row.unwrap().get_long(5).unwrap());
    assert!(seqs.eq(0..count as i64));
    assert_eq!(written(&[]).metadata().file_metadata().num_rows(), 0);
}
