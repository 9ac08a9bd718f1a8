//! The pool's decisions, by example and by simulated time.

use super::*;
use crate::load::Condition;

fn shared() -> Pooling {
    Pooling::new(Isolation::Shared)
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn with_streams(streams: usize, opened: Instant) -> View {
    let condition = Condition { availability: Availability::Ready, bulk: false, stalled: false, idle: streams == 0 };
    let load = Load {
        condition,
        streams,
        active: 0,
        dialling: false,
        quiet: true,
        idle_since: (streams == 0).then_some(opened),
    };
    View { load, opened, draining: false }
}

fn view(streams: usize) -> View {
    with_streams(streams, Instant::now())
}

fn busy(streams: usize) -> View {
    let mut view = view(streams);
    view.load.active = streams;
    view
}

fn being(availability: Availability) -> View {
    let mut view = view(1);
    view.load.condition.availability = availability;
    view
}

fn bulk(streams: usize) -> View {
    let mut view = view(streams);
    view.load.condition.bulk = true;
    view.load.quiet = false;
    view.load.active = streams;
    view
}

fn transferring() -> View {
    let mut view = bulk(1);
    view.load.condition.bulk = false;
    view
}

fn was_bulk() -> View {
    let mut view = bulk(1);
    (view.load.quiet, view.load.active) = (true, 0);
    view
}

fn stalled() -> View {
    let mut view = view(1);
    view.load.condition.stalled = true;
    view
}

fn dialling() -> View {
    let mut view = view(1);
    (view.load.dialling, view.load.active) = (true, 1);
    view
}

/// A session opened just now for a connection that has not taken it yet.
fn awaited() -> View {
    let mut view = view(0);
    (view.load.dialling, view.load.active) = (true, 1);
    view
}

fn draining() -> View {
    View { draining: true, ..view(1) }
}

const NEW: Waiting = Waiting { waited: Duration::ZERO, pending: false, failed: false, barred: false };
const PENDING: Waiting = Waiting { pending: true, ..NEW };
const FAILED: Waiting = Waiting { failed: true, ..NEW };
const BARRED: Waiting = Waiting { barred: true, ..NEW };

fn late(waiting: Waiting) -> Waiting {
    Waiting { waited: secs(60), ..waiting }
}

#[test]
fn a_connection_goes_to_the_calmest_session_or_waits_for_another() {
    use Availability::{Full, Over, Restoring, Stuck, Unresponsive};
    use Place::{Failed, Join, NoRoom, Open, Session, Wait};
    for (what, sessions, openings, waiting, place) in [
        ("the first opens one", vec![], &[][..], NEW, Open),
        ("the second shares it", vec![], &[1], NEW, Join(0)),
        ("so does the fifth", vec![], &[4], NEW, Join(0)),
        ("fewest streams", vec![view(3), view(1), view(2)], &[], NEW, Session(1)),
        ("an idle one with more streams before a busy one", vec![bulk(1), view(9)], &[], NEW, Session(1)),
        ("and one with many that work a little", vec![bulk(1), busy(3), dialling()], &[], NEW, Session(1)),
        (
            "the least at work of several busy ones",
            vec![bulk(3), dialling(), bulk(2), bulk(4)],
            &[],
            late(NEW),
            Session(1),
        ),
        ("bulk: another is opened", vec![bulk(1)], &[], NEW, Open),
        ("a transfer has just begun: another is opened", vec![transferring()], &[], NEW, Open),
        ("one that just came: another is opened", vec![dialling()], &[], NEW, Open),
        ("no connection waits for the one being opened", vec![bulk(1)], &[0], NEW, Join(0)),
        ("a connection does: yet another", vec![bulk(1)], &[1], NEW, Open),
        (
            "as many as allowed: the best of the busy ones",
            vec![stalled(), bulk(2), bulk(1), bulk(3)],
            &[],
            NEW,
            Session(2),
        ),
        ("a transfer may be over soon", vec![bulk(1), dialling(), dialling(), dialling()], &[], NEW, Wait),
        (
            "but that is not waited for long",
            vec![bulk(1), dialling(), dialling(), dialling()],
            &[],
            late(NEW),
            Session(1),
        ),
        ("a dial is better than bulk", vec![bulk(1), dialling(), stalled(), bulk(1)], &[], late(NEW), Session(1)),
        ("without a transfer there is no end of one to wait for", vec![dialling(); 4], &[], NEW, Session(0)),
        (
            "a transfer just over is better than both",
            vec![bulk(1), dialling(), was_bulk(), bulk(1)],
            &[],
            NEW,
            Session(2),
        ),
        ("but another session is better still", vec![bulk(1), dialling(), was_bulk()], &[], NEW, Open),
        ("those being opened count", vec![bulk(1), bulk(2)], &[1, 1], NEW, Session(0)),
        ("it waits for its own", vec![bulk(1)], &[1], PENDING, Wait),
        ("but takes an idle one", vec![bulk(1), view(4)], &[1], PENDING, Session(1)),
        ("and after a while any", vec![bulk(1)], &[1], late(PENDING), Session(0)),
        ("as it does when none can be opened", vec![bulk(1)], &[], FAILED, Session(0)),
        ("and fails only without any", vec![], &[], FAILED, Failed),
        ("being restored: worth waiting for", vec![being(Restoring)], &[], NEW, Wait),
        ("but not for long", vec![being(Restoring)], &[], late(NEW), Open),
        ("and when no other can be had, longer", vec![being(Restoring)], &[], late(FAILED), Wait),
        ("never while there is an idle one", vec![being(Restoring), view(5)], &[], NEW, Session(1)),
        ("stuck, draining and ended ones are replaced", vec![being(Stuck), draining(), being(Over)], &[], NEW, Open),
        ("and do not count", [&[draining(); 9][..], &[view(1)]].concat(), &[], NEW, Session(9)),
        ("an agent that does not answer is replaced", vec![being(Unresponsive); 4], &[], NEW, Open),
        ("after a failure the next attempt is waited for", vec![], &[], BARRED, Wait),
        ("by all together", vec![], &[3], BARRED, Join(0)),
        ("unless a busy one is there", vec![bulk(1)], &[], BARRED, Session(0)),
        ("full ones do count", vec![being(Full); 4], &[], NEW, NoRoom),
        ("a full one is never chosen", vec![being(Full), stalled(), stalled(), stalled()], &[], NEW, Session(1)),
    ] {
        assert_eq!(super::place(&sessions, openings, &shared(), waiting), place, "{what}");
    }
}

#[test]
fn isolated_connection_never_shares_a_session() {
    use Place::{Failed, Join, NoRoom, Open, Session, Wait};
    let pooling = Pooling { isolation: Isolation::Connection, max_sessions: 2, ..shared() };
    for (sessions, openings, waiting, place) in [
        (vec![], &[][..], NEW, Open),
        (vec![], &[1], NEW, Open),
        (vec![], &[1, 1], NEW, Wait),
        (vec![], &[1, 0], NEW, Join(1)),
        (vec![view(1)], &[1], NEW, Wait),
        (vec![], &[], BARRED, Wait),
        (vec![awaited()], &[], NEW, Open),
        (vec![], &[1], PENDING, Wait),
        (vec![view(1)], &[], NEW, Open),
        (vec![view(1), view(0)], &[], NEW, Session(1)),
        (vec![view(1), view(1)], &[], NEW, NoRoom),
        (vec![view(1)], &[], FAILED, Failed),
    ] {
        assert_eq!(super::place(&sessions, openings, &pooling, waiting), place, "{sessions:?} {openings:?}");
    }
}

#[test]
fn sessions_end_when_the_destination_is_out_of_use_and_not_before() {
    let start = Instant::now();
    let plan = |sessions: &[View], pooling: &Pooling, after| upkeep(sessions, 0, pooling, None, start + secs(after));
    let pooling = shared();
    // A session that was never used stays for five minutes.
    let unused = [with_streams(0, start)];
    assert_eq!(plan(&unused, &pooling, 299), Upkeep { next: Some(start + secs(300)), ..Upkeep::default() });
    assert_eq!(plan(&unused, &pooling, 300).end, [0]);
    // Beside one in use a second one is too many, once it has been idle for as long.
    let both = [with_streams(0, start), with_streams(2, start)];
    assert_eq!(plan(&both, &pooling, 299).end, [0; 0]);
    assert_eq!(plan(&both, &pooling, 300).end, [0]);
    // Unless two are to be warm; then both end after the last use.
    let two = Pooling { warm_sessions: 2, ..shared() };
    assert_eq!(plan(&both, &two, 100_000), Upkeep::default());
    let idle = [with_streams(0, start), with_streams(0, start + secs(1000))];
    assert_eq!(plan(&idle, &two, 1299).end, [0; 0]);
    assert_eq!(plan(&idle, &two, 1300).end, [0, 1]);
    // While one is being opened, a connection is about to use the destination.
    assert_eq!(upkeep(&unused, 1, &pooling, None, start + secs(9999)).end, [0; 0]);
    // A drained session ends with its last connection.
    let drained = |streams| [View { draining: true, ..with_streams(streams, start) }];
    assert_eq!(plan(&drained(0), &pooling, 1).end, [0]);
    assert_eq!(plan(&drained(1), &pooling, 100_000).end, [0; 0]);
}

#[test]
fn stuck_and_old_sessions_are_drained() {
    let start = Instant::now();
    let stuck = View { opened: start, ..being(Availability::Stuck) };
    assert_eq!(upkeep(&[stuck], 0, &shared(), None, start).drain, [0]);
    let rotating = Pooling { rotate_after: Some(secs(1800)), ..shared() };
    let sessions = [with_streams(1, start), with_streams(1, start + secs(60))];
    let plan = |after| upkeep(&sessions, 0, &rotating, None, start + secs(after));
    assert_eq!(plan(1799), Upkeep { next: Some(start + secs(1800)), ..Upkeep::default() });
    assert_eq!((plan(1800).drain, plan(1800).next), (vec![0], Some(start + secs(1860))));
    assert_eq!(plan(1860).drain, [0, 1]);
}

#[test]
fn spare_session_is_opened_before_a_connection_needs_it() {
    let start = Instant::now();
    let opens = |sessions: &[View], opening, pooling: &Pooling| upkeep(sessions, opening, pooling, None, start).open;
    assert!(!opens(&[view(3)], 0, &shared()), "there is room");
    assert!(opens(&[bulk(1)], 0, &shared()), "the only one is busy");
    assert!(opens(&[bulk(1), stalled(), being(Availability::Full)], 0, &shared()), "all three are");
    assert!(!opens(&[bulk(1), view(1)], 0, &shared()), "one is idle");
    assert!(!opens(&[bulk(1)], 1, &shared()), "one is on its way");
    assert!(!opens(&[bulk(1), bulk(1), bulk(1), bulk(1)], 0, &shared()), "no more than four");
    assert!(!opens(&[being(Availability::Restoring)], 0, &shared()), "it comes back");
    assert!(opens(&[draining()], 0, &shared()), "the destination is in use and has no session for the next connection");
    assert!(!opens(&[draining()], 0, &Pooling { warm_sessions: 0, ..shared() }), "none is to be warm");
    assert!(!opens(&[], 0, &shared()), "the destination is not in use");
    assert!(opens(&[view(1)], 0, &Pooling { warm_sessions: 2, ..shared() }), "two are to be warm");
    assert!(!opens(&[bulk(1)], 0, &Pooling { isolation: Isolation::Connection, ..shared() }), "each has its own");
    let retry_at = start + secs(5);
    let refused = upkeep(&[bulk(1)], 0, &shared(), Some(retry_at), start);
    assert_eq!(refused, Upkeep { next: Some(retry_at), ..Upkeep::default() });
    assert!(upkeep(&[bulk(1)], 0, &shared(), Some(retry_at), retry_at).open);
}

#[test]
fn suspicions_of_a_destination_that_is_down_become_rare() {
    let start = Instant::now();
    let mut suspicion = Suspicion::default();
    let counted = (0..3600).filter(|&second| suspicion.raise(start + secs(second))).collect::<Vec<_>>();
    assert_eq!(counted, [0, 10, 30, 70, 150, 310, 630, 1230, 1830, 2430, 3030]);
    let calm = 3599 + 600;
    assert!(suspicion.raise(start + secs(calm)), "after a quiet time it counts at once");
    assert!(suspicion.raise(start + secs(calm + 10)), "and the next one soon");
}

/// One connection of a burst, as the pool keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ticket {
    Asks,
    /// It waits for the opening of this number.
    Awaits(usize),
    Has,
    Refused,
    Left,
}

#[test]
fn isolated_connections_up_to_the_limit_are_served_in_any_order_of_opening() {
    for seed in 0..2000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let most = random.usize(1..=16);
        let pooling = Pooling { isolation: Isolation::Connection, max_sessions: most, ..shared() };
        let mut tickets = vec![Ticket::Asks; most];
        // The numbers of sessions being opened; the open ones, each with its connection.
        let (mut openings, mut open, mut next) = (Vec::<usize>::new(), Vec::<(usize, Option<usize>)>::new(), 0);
        while tickets.iter().any(|ticket| matches!(ticket, Ticket::Asks | Ticket::Awaits(_))) {
            if random.u8(..4) == 0 && !openings.is_empty() {
                open.push((openings.swap_remove(random.usize(..openings.len())), None));
                continue;
            }
            let index = random.usize(..most);
            if let Ticket::Awaits(number) = tickets[index]
                && open.iter().any(|(opened, _)| *opened == number)
            {
                // The session that it waited for has opened.
                tickets[index] = Ticket::Asks;
            }
            if !matches!(tickets[index], Ticket::Asks | Ticket::Awaits(_)) {
                continue;
            }
            let waiters = |number| tickets.iter().filter(|ticket| **ticket == Ticket::Awaits(number)).count();
            let waiters_of_openings: Vec<usize> = openings.iter().map(|number| waiters(*number)).collect();
            let waiting = |number: usize| {
                tickets.iter().enumerate().any(|(other, ticket)| other != index && *ticket == Ticket::Awaits(number))
            };
            let views: Vec<View> = open
                .iter()
                .map(|(number, user)| match user {
                    Some(_) => view(1),
                    None if waiting(*number) => awaited(),
                    None => view(0),
                })
                .collect();
            let pending = matches!(tickets[index], Ticket::Awaits(_));
            match place(&views, &waiters_of_openings, &pooling, Waiting { pending, ..NEW }) {
                Place::Session(at) => (open[at].1, tickets[index]) = (Some(index), Ticket::Has),
                Place::Join(at) => tickets[index] = Ticket::Awaits(openings[at]),
                Place::Open => {
                    openings.push(next);
                    tickets[index] = Ticket::Awaits(next);
                    next += 1;
                }
                Place::Wait => {
                    // The connection may give up meanwhile.
                    if random.u8(..64) == 0 {
                        tickets[index] = Ticket::Left;
                    }
                }
                Place::Failed | Place::NoRoom => tickets[index] = Ticket::Refused,
            }
        }
        assert!(!tickets.contains(&Ticket::Refused), "seed {seed}, at most {most}: {tickets:?}");
    }
}

#[test]
fn failed_attempts_to_open_a_session_become_rare_until_one_succeeds() {
    let start = Instant::now();
    let mut failures = Failures::default();
    let (mut attempts, mut now) = (Vec::new(), start);
    while now < start + secs(20) {
        if failures.barred_until(now).is_none() {
            attempts.push((now - start).as_secs());
            failures.failed(now);
        }
        now += Duration::from_millis(100);
    }
    assert_eq!(attempts, [0, 1, 3, 7, 11, 15, 19]);
    failures.succeeded();
    assert_eq!(failures.barred_until(now), None);
    failures.failed(now);
    assert_eq!(failures.barred_until(now), Some(now + secs(1)));
    failures.failed(now + secs(60));
    assert_eq!(failures.barred_until(now + secs(60)), Some(now + secs(61)), "an old failure does not count");
}
