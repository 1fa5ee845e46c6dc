//! What comes between two steps of one order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use pilotage::alert::Alert;
use pilotage::clock::{Clock, ManualClock, Moment};
use pilotage::control::Pilot;
use pilotage::control::orders::Did;
use pilotage::ids::Arm;
use pilotage::machine::Order;
use pilotage::model;
use pilotage::rollout::pipeline::End;
use pilotage::serve::router::Router;

use crate::{World, canary_plan};

/// A clock that does something else once, when it is read.
#[derive(Clone, Default)]
struct Interrupting {
    clock: ManualClock,
    #[expect(clippy::type_complexity, reason = "said once")]
    once: Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>,
}

impl Clock for Interrupting {
    fn now(&self) -> Moment {
        let once = self.once.lock().take();
        if let Some(once) = once {
            once();
        }
        self.clock.now()
    }
}

#[test]
fn a_promotion_is_not_made_final_in_the_middle_of_a_stop() {
    let clock = Interrupting::default();
    let named = |name: &'static str| model::sync(move |_: &u64| Ok::<_, String>(name));
    let router =
        Router::builder("between").stable("v1", named("v1")).clock(clock.clone()).build().unwrap();
    let pilot = Pilot::builder()
        .alerter(|_: &Alert| ())
        .start(&router, "v2", Arc::new(named("v2")), canary_plan())
        .unwrap();
    pilot.order(Order::PromoteFully, "ann", "sure").unwrap();
    assert_eq!(pilot.end(), Some(End::Promoted));
    // The abort has moved everybody already when the other order comes.
    let other = pilot.clone();
    *clock.once.lock() = Some(Box::new(move || drop(other.order(Order::Finish, "bob", "done"))));
    let receipt = pilot.abort("ann", "it smokes");
    let baseline = router.model_name(Arm::BASELINE).unwrap();
    assert_eq!((receipt.map(|one| one.did), baseline.as_str()), (Ok(Did::TookPromotionBack), "v1"));
    assert_eq!(pilot.end(), Some(End::Aborted));
}

#[test]
fn a_pause_beside_a_look_is_never_forgotten() {
    let mut world = World::new();
    let (pilot, _alerts) = world.start();
    world.run(&pilot, 2);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                world.clock.advance(Duration::from_micros(1));
                pilot.tick();
            }
        });
        let mut forgotten = 0;
        for _ in 0..2_000 {
            pilot.pause("ann", "wait").unwrap();
            // A look that began before it ends meanwhile.
            let ticks = pilot.status().ticks;
            while pilot.status().ticks < ticks + 2 {
                thread::yield_now();
            }
            forgotten += u32::from(pilot.status().paused.is_none());
            let at = pilot.at();
            let _ = pilot.order_at(&at, Order::Resume, "ann", "go on");
        }
        over.store(true, Ordering::Relaxed);
        assert_eq!(forgotten, 0);
    });
}
