//! A flag's evaluation allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use pilotage::share::TrafficShare;
use pilotage::strategy::flag::{
    Attribute, Condition, Context, FlagSet, FlagSpec, Rule, Serve, Test, Value,
};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator as it came; counting a thread-local that needs
// no initialisation allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

#[test]
fn an_evaluation_allocates_nothing() {
    let share = |percent| TrafficShare::percent(percent).unwrap();
    let rule = Rule::new(
        Serve::On,
        [
            Condition::new("version", Test::VersionAtLeast("1.2.0".into())),
            Condition::new("country", Test::OneOf(vec![Value::Text("DE".into())])),
        ],
    );
    let spec = FlagSpec::choosing(
        "model",
        ("v2", Value::Text("v2".into())),
        [("v3", Value::Text("v3".into()), 1), ("v4", Value::Text("v4".into()), 1)],
    )
    .share(share(50.0))
    .deny("d")
    .allow("a")
    .enable_segment("premium")
    .rule(rule)
    .requires("parent", "on")
    .in_layer("search", share(0.0), share(90.0))
    .in_holdout("quarter");
    let flags = FlagSet::builder()
        .segment("premium")
        .layer("search")
        .holdout("quarter", share(5.0))
        .flag(FlagSpec::new("parent").default_variant("on"))
        .flag(spec)
        .build()
        .unwrap();
    let handle = flags.flag("model").unwrap();
    let attributes = [("version", Attribute::Text("1.3.0")), ("country", Attribute::Text("FR"))];
    let ask = || {
        for id in 0..1000 {
            let context = Context::of_number(id).attributes(&attributes).segment("free");
            black_box(handle.is_on(&context));
            black_box(handle.evaluate(&context).value());
            black_box(flags.evaluate("model", &context).is_some());
            black_box(flags.is_on("model", &Context::anonymous()));
            black_box(flags.is_on("unknown", &context));
        }
        handle.kill();
    };
    ask(); // the thread's first load and count register it
    let before = ALLOCATIONS.with(Cell::get);
    ask();
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
}
