//! What is told stays true: later evidence corrects a verdict, and neither the end of a trouble nor old news changes it.

use super::*;

fn way(lost: i32) -> Option<Way> {
    Some(Way { lost, variation_ms: None })
}

/// By this STAMP tells what was lost since the reply before, there and back.
fn told(forward: i32, back: i32) -> impl Fn(i64) -> Second {
    move |_| Second {
        detail: Some(Detail { forward: way(forward), back: way(back), ..Detail::default() }),
        ..Second::default()
    }
}

fn tunnels_down(_: i64) -> Second {
    Second { outcomes: [LOST; 5], up: [false; 2], ..Second::default() }
}

/// What a site's small probes saw of each second until then, all at once.
fn hear(world: &mut World, site: &str, seconds: std::ops::Range<i64>, seen: impl Fn(i64, &str) -> Outcome) {
    for second in seconds {
        let mut out = Vec::new();
        world.second = second;
        for (_, name, _) in PROBES.iter().filter(|(of, name, _)| *of == site && *name != "large") {
            let body = Body::Probe {
                link: "l".into(),
                probe: (*name).into(),
                outcome: seen(second, name),
                detail: None,
            };
            world.observe(site, 100, body, &mut out);
        }
        world.engine.advance(site, &"1".into(), Timestamp::from_secs(START + second + 1), &mut out);
        world.tell(&out);
    }
}

/// Its tunnels were asked after its own losses began, by the same clock: that the other site's began a second before says nothing,
/// whichever is heard first.
#[test]
fn what_a_site_knows_of_the_tunnels_is_held_against_its_own_losses() {
    let known = "black-hole (2 of 2 tunnels up after 0 s, ";
    let a = |world: &mut World| {
        hear(world, "a", 17..19, |second, _| if second >= 18 { LOST } else { REPLY });
        world.observe("a", 700, tunnels([true; 2]), &mut Vec::new());
        hear(world, "a", 19..23, |_, _| LOST);
        assert!(world.course().last().unwrap().contains(known), "{:#?}", world.told);
    };
    let b = |world: &mut World| hear(world, "b", 17..23, |_, _| LOST);
    for heard_first in ["a", "b"] {
        let mut world = World::new();
        world.seconds(17, good);
        if heard_first == "b" {
            b(&mut world);
            a(&mut world);
        } else {
            a(&mut world);
            b(&mut world);
        }
        let joined = |told: &String| told.contains(" by ping-failed l/b/udp-a");
        assert!(world.told.iter().any(joined), "{:#?}", world.told);
        assert!(world.told.last().unwrap().contains(known), "{:#?}", world.told);
    }
}

/// While something else keeps the incident open: a rule that wants long to clear, or a target that stays down.
#[test]
fn a_packet_or_two_change_no_verdict_and_what_goes_on_does() {
    let only = |which: &[usize]| {
        let outcomes = [0, 1, 2, 3, 4].map(|place| if which.contains(&place) { LOST } else { REPLY });
        move |_: i64| Second { outcomes, ..Second::default() }
    };
    let all = [0, 1, 2, 3, 4];
    for seed in 0..20 {
        let mut world = World::new();
        let slow_to_clear: Vec<Rule> =
            rules().into_iter().map(|rule| Rule { clear: Some(60), ..rule }).collect();
        world.engine = Engine::new(slow_to_clear, &topology());
        let random = RefCell::new(fastrand::Rng::with_seed(seed));
        let by_chance = |share: f64| {
            let random = &random;
            let outcome = move |()| if random.borrow_mut().f64() < share { LOST } else { REPLY };
            move |_: i64| Second { outcomes: [(); 5].map(outcome), ..Second::default() }
        };
        // As long as it takes until nothing is known any more of losses and replies that took turns.
        world.seconds(17, good).seconds(40, by_chance(0.3)).seconds(40, by_chance(0.5)).seconds(40, good);
        let so_far = world.course().len();
        for blip in [&[1][..], &[0], &[2, 3], &all] {
            world.seconds(2, only(blip)).seconds(3, good);
        }
        let course = world.course();
        assert!(course[so_far - 1..].iter().all(|told| told.contains("lossy (")), "seed {seed}: {course:#?}");
        world.seconds(20, only(&[1]));
        assert!(world.course().last().unwrap().contains("target-down ("), "seed {seed}: {:#?}", world.told);
    }

    let mut world = World::new();
    world.seconds(17, good).seconds(60, only(&[1])).seconds(2, only(&all)).seconds(60, only(&[1]));
    assert_eq!(world.course().len(), 1, "{:#?}", world.told);
    world.seconds(20, only(&all));
    let wanted = ["worse: link-lost (4 of 4 probes lost, tunnels not asked since)", "refined: black-hole ("];
    assert!(world.course()[1..].iter().zip(wanted).all(|(told, of)| told.contains(of)), "{:#?}", world.told);
}

const TARGET: [bool; 5] = [false, true, false, false, false];

/// For days, maybe: it must not hide what happens to the rest.
#[test]
fn each_black_hole_is_told_of_while_one_target_stays_down() {
    let mut world = World::new();
    world.seconds(17, good).seconds(60, lost(TARGET));
    for _ in 0..2 {
        world.seconds(30, lost(ALL)).seconds(90, lost(TARGET));
    }
    let course = world.course();
    let kinds: Vec<&str> = course.iter().filter_map(|told| told.split(" (").next()).collect();
    assert_eq!(
        kinds,
        [
            "l opened by ping-failed l/a/tcp-b: target-down",
            "l worse: link-lost",
            "l refined: black-hole",
            "l refined: target-down",
            "l worse: link-lost",
            "l refined: black-hole",
            "l refined: target-down",
        ],
        "{:#?}",
        world.told
    );
    world.seconds(20, good);
    assert!(world.course().last().unwrap().contains("l/a/tcp-b: black-hole ("), "{:#?}", world.told);
}

#[test]
fn what_recovers_last_gives_what_was_lost_in_part_no_other_name() {
    let mut world = World::new();
    let icmp = [true, false, true, false, false];
    world.seconds(17, good).seconds(20, lost(icmp));
    world.seconds(3, lost([true, false, false, false, false])).seconds(20, good);
    let course = world.course();
    assert!(course[0].contains("filtered (icmp lost, tcp and udp answers)"), "{course:#?}");
    assert!(course.iter().all(|told| told.contains("filtered (")), "{course:#?}");
}

/// The first losses may be of all probes, and only what follows tells.
#[test]
fn losses_by_chance_that_begin_with_all_lost_become_a_lossy_link() {
    let mut world = World::new();
    let takes_turns = |second: i64| {
        let outcome = |place: i64| if (second + place) % 3 == 0 { REPLY } else { LOST };
        Second { outcomes: [0, 1, 2, 1, 0].map(outcome), ..Second::default() }
    };
    world.seconds(17, good).seconds(3, lost(ALL)).seconds(60, takes_turns);
    assert!(world.course()[0].contains(": link-lost ("), "{:#?}", world.told);
    assert!(world.course().last().unwrap().contains("lossy ("), "{:#?}", world.told);
    assert!(!world.course().iter().any(|told| told.contains("worse")), "{:#?}", world.told);
    world.seconds(20, good);
    assert!(world.course().last().unwrap().contains("closed by ping-failed"), "{:#?}", world.told);
    assert!(world.course().last().unwrap().contains("lossy ("), "{:#?}", world.told);
}

#[test]
fn tunnels_that_are_back_before_the_replies_make_no_black_hole_until_they_are_for_long() {
    let mut world = World::new();
    world.seconds(17, good).seconds(40, tunnels_down).seconds(20, lost(ALL));
    assert!(world.course().last().unwrap().contains("tunnels-down ("), "{:#?}", world.told);
    let mut other = World::new();
    other.seconds(17, good).seconds(40, tunnels_down).seconds(20, lost(ALL)).seconds(20, good);
    assert!(other.course().last().unwrap().contains("large: tunnels-down ("), "{:#?}", other.told);
    world.seconds(60, lost(ALL));
    assert!(world.course().last().unwrap().contains("refined: black-hole ("), "{:#?}", world.told);
}

#[test]
fn a_replaced_tunnel_is_one_whatever_else_began_and_ended_meanwhile() {
    let one = |outcomes| move |_| Second { outcomes, up: [true, false], ..Second::default() };
    let slow = [Outcome::Reply { rtt_ms: 231.2 }; 5];
    let mut world = World::new();
    world.seconds(12, good).seconds(20, one(slow)).seconds(20, one([REPLY; 5])).seconds(20, good);
    let last = |world: &World| world.told.last().cloned().unwrap();
    assert!(last(&world).contains("closed by tunnels-low l/vpn-1: tunnel-replaced ("), "{:#?}", world.told);

    // What joins afterwards is what it was, as if nothing had ended before.
    let mut world = World::new();
    let target = [REPLY, LOST, REPLY, REPLY, REPLY];
    world.seconds(12, good).seconds(20, one(slow)).seconds(20, one([REPLY; 5])).seconds(20, one(target));
    world.seconds(20, good);
    assert!(last(&world).contains(": target-down ("), "{:#?}", world.told);
}

/// A site may be heard late: that it lost a packet some seconds before says nothing of now.
#[test]
fn old_news_of_a_packet_or_two_makes_nothing_lost_in_part_of_a_black_hole() {
    let mut world = World::new();
    world.seconds(10, good);
    let b = |second: i64, _: &str| if second >= 17 { LOST } else { REPLY };
    let a = |second: i64, name: &str| {
        if second >= 17 || (second == 12 && name == "icmp-b") { LOST } else { REPLY }
    };
    hear(&mut world, "b", 10..22, b);
    assert!(world.course()[0].contains(": link-lost (2 of 4"), "{:#?}", world.told);
    hear(&mut world, "a", 10..30, a);
    hear(&mut world, "b", 22..30, b);
    assert!(!world.told.iter().any(|told| !told.contains("link-lost (")), "{:#?}", world.told);
    assert_eq!(world.course().len(), 1, "{:#?}", world.told);
}

/// Its packets were sent before those of the others, whose outcome is not known yet.
#[test]
fn large_packets_are_lost_by_their_size_only_once_small_ones_are_seen_to_pass() {
    let mut world = World::new();
    world.seconds(17, good);
    for second in 17..20 {
        let mut out = Vec::new();
        world.second = second;
        let body = Body::Probe { link: "l".into(), probe: "large".into(), outcome: LOST, detail: None };
        world.observe("a", 400, body, &mut out);
        world.tell(&out);
    }
    assert!(world.course()[0].contains("opened by ping-failed l/a/large: link-lost ("), "{:#?}", world.told);
    let mut passes = world;
    hear(&mut passes, "a", 17..21, |_, _| REPLY);
    assert!(passes.course().last().unwrap().contains("refined: too-big ("), "{:#?}", passes.told);
}

#[test]
fn what_stamp_told_of_the_loss_before_says_nothing_of_the_next() {
    let mut world = World::new();
    world.seconds(17, good).seconds(30, lost(ALL)).seconds(1, told(0, 6)).seconds(2, good);
    assert!(world.course().last().unwrap().contains("refined: one-way ("), "{:#?}", world.told);
    world.seconds(30, tunnels_down);
    assert!(world.course().last().unwrap().contains("refined: tunnels-down ("), "{:#?}", world.told);
}

#[test]
fn a_packet_that_was_lost_the_other_way_shortly_before_hides_no_loss_one_way() {
    let mut world = World::new();
    world.seconds(17, good).seconds(2, lost(ALL)).seconds(1, told(2, 0)).seconds(2, good);
    world.seconds(30, lost(ALL)).seconds(1, told(0, 30)).seconds(20, good);
    assert!(world.course().last().unwrap().contains("large: one-way ("), "{:#?}", world.told);
}

#[test]
fn what_was_kept_of_an_incident_by_an_earlier_version_is_read() {
    let kept =
        [r#"{"began":"2026-11-22T07:00:00.000000Z","total":true}"#, r#"{"lost_since":{},"total":true}"#];
    for kept in kept {
        assert!(serde_json::from_str::<Course>(kept).is_ok(), "{kept}");
    }
}

/// The prober says so by a router's word, or once small ones were answered beside.
#[test]
fn what_is_said_to_be_too_big_needs_no_small_packets_afterwards() {
    let mut world = World::new();
    let at_once: Vec<Rule> =
        rules().into_iter().map(|rule| Rule { breach: Breach { m: 1, n: 1 }, ..rule }).collect();
    world.engine = Engine::new(at_once, &topology());
    let outcomes = [REPLY, REPLY, REPLY, REPLY, Outcome::Lost(Lost::TooBig)];
    world.seconds(17, good).seconds(1, |_| Second { outcomes, ..Second::default() });
    assert!(world.course()[0].contains("l/a/large: too-big ("), "{:#?}", world.told);
}
