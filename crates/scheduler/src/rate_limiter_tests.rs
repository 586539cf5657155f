//! The rate limiter driven by hand.

use super::{Claimant, Need, RateLimiter, Supply, Urgent};

fn need(resource: &str, count: u32) -> Need {
    Need { resource: resource.into(), global: false, count }
}

fn global(resource: &str, count: u32) -> Need {
    Need { global: true, ..need(resource, count) }
}

fn supply(resource: &str, count: u32, device: Option<i32>) -> Supply {
    Supply { resource: resource.into(), count, device }
}

fn join(limiter: &mut RateLimiter, needs: &[Need]) -> Claimant {
    limiter.join(needs, 0, 1).unwrap()
}

fn claim(limiter: &mut RateLimiter, claimant: Claimant) -> bool {
    limiter.claim(claimant, Urgent(false))
}

fn refusal(limiter: &mut RateLimiter, needs: &[Need]) -> String {
    limiter.join(needs, 0, 1).unwrap_err().to_string()
}

#[test]
fn there_is_as_much_as_the_neediest_needs() {
    let mut limiter = RateLimiter::new(Vec::new());
    let large = join(&mut limiter, &[need("R", 4)]);
    let small: Vec<Claimant> = (0..3).map(|_| join(&mut limiter, &[need("R", 2)])).collect();
    assert!(claim(&mut limiter, small[0]) && claim(&mut limiter, small[1]));
    assert!(!claim(&mut limiter, large), "2 + 2 of 4 are in use");
    limiter.done(small[0], None);
    assert!(limiter.take_granted().is_empty(), "2 are not enough");
    limiter.done(small[1], None);
    assert_eq!(limiter.take_granted(), [large]);
}

#[test]
fn who_waits_is_not_starved_by_smaller_needs() {
    let mut limiter = RateLimiter::new(Vec::new());
    let large = join(&mut limiter, &[need("R", 2)]);
    let small: Vec<Claimant> = (0..2).map(|_| join(&mut limiter, &[need("R", 1)])).collect();
    let other = join(&mut limiter, &[need("S", 1)]);
    assert!(claim(&mut limiter, small[0]));
    assert!(!claim(&mut limiter, large));
    assert!(!claim(&mut limiter, small[1]), "there is one, but it is waited for");
    assert!(claim(&mut limiter, other), "who needs something else may overtake");
    limiter.done(small[0], None);
    assert_eq!(limiter.take_granted(), [large]);
    limiter.done(large, None);
    assert_eq!(limiter.take_granted(), [small[1]]);
}

#[test]
fn turns_go_by_priority() {
    let mut limiter = RateLimiter::new(Vec::new());
    let members: Vec<Claimant> =
        [1, 2, 4].iter().map(|&p| limiter.join(&[need("R", 1)], 0, p).unwrap()).collect();
    let mut turns = [0; 3];
    for &member in &members {
        claim(&mut limiter, member);
    }
    let mut running = members[0];
    for _ in 0..700 {
        turns[members.iter().position(|member| *member == running).unwrap()] += 1;
        limiter.done(running, Some(Urgent(false)));
        running = limiter.take_granted()[0];
    }
    for (turns, expected) in turns.iter().zip([400_i32, 200, 100]) {
        assert!((turns - expected).abs() < 10, "{turns} turns, expected {expected}");
    }
}

#[test]
fn who_was_idle_or_comes_late_has_no_turns_saved_up() {
    let mut limiter = RateLimiter::new(Vec::new());
    let busy = join(&mut limiter, &[need("R", 1)]);
    for _ in 0..100 {
        assert!(claim(&mut limiter, busy));
        limiter.done(busy, None);
    }
    let late = join(&mut limiter, &[need("R", 1)]);
    let mut turns = [0; 2];
    for _ in 0..10 {
        for (index, claimant) in [late, busy].into_iter().enumerate() {
            if claim(&mut limiter, claimant) || limiter.take_granted().contains(&claimant) {
                turns[index] += 1;
                limiter.done(claimant, None);
            }
        }
    }
    assert_eq!(turns, [10, 10]);
}

#[test]
fn a_model_that_is_called_by_one_that_holds_does_not_wait() {
    let mut limiter = RateLimiter::new(Vec::new());
    let caller = join(&mut limiter, &[need("R", 1)]);
    let called = join(&mut limiter, &[need("R", 1)]);
    let other = join(&mut limiter, &[need("R", 1)]);
    assert!(claim(&mut limiter, caller));
    assert!(!claim(&mut limiter, other));
    assert!(!limiter.claim(called, Urgent(true)), "called by somebody who holds nothing");
    limiter.call_begins();
    assert_eq!(limiter.take_granted(), [called]);
    limiter.done(called, None);
    limiter.call_ends();
    assert!(limiter.take_granted().is_empty());
    limiter.done(caller, None);
    assert_eq!(limiter.take_granted(), [other]);
}

#[test]
fn what_the_server_was_told_counts() {
    let supplies = vec![supply("R", 5, None), supply("R", 7, Some(0)), supply("S", 3, Some(1))];
    let mut limiter = RateLimiter::new(supplies);
    join(&mut limiter, &[need("R", 7)]);
    assert_eq!(
        refusal(&mut limiter, &[need("R", 8)]),
        "Invalid argument: Resource count for \"R\" is limited to 7 which will prevent scheduling \
         of one or more model instances, the minimum required count is 8"
    );
    assert!(limiter.join(&[need("R", 6)], 2, 1).is_err(), "other devices have 5");
    assert!(refusal(&mut limiter, &[need("S", 1)]).contains("limited to 0"));
    assert!(refusal(&mut limiter, &[need("r", 1)]).contains("limited to 0"), "case matters");
    join(&mut limiter, &[global("S", 3)]);
}

#[test]
fn a_resource_is_global_or_it_is_not() {
    let mut limiter = RateLimiter::new(Vec::new());
    join(&mut limiter, &[need("R", 4)]);
    let text = "Invalid argument: Resource \"R\" is present as both global and device-specific \
                resource in the model configuration.";
    assert_eq!(refusal(&mut limiter, &[global("R", 1)]), text);
    assert!(limiter.join(&[need("S", 1), global("S", 1)], 0, 1).is_err());
}

#[test]
fn who_leaves_gives_back() {
    let mut limiter = RateLimiter::new(Vec::new());
    let first = join(&mut limiter, &[need("R", 1)]);
    let second = join(&mut limiter, &[need("R", 1)]);
    assert!(claim(&mut limiter, first));
    assert!(!claim(&mut limiter, second));
    limiter.leave(first);
    assert_eq!(limiter.take_granted(), [second]);
}
