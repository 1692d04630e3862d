//! A new migration is a reason to build again; `sqlx::migrate!` reads the folder when it is
//! expanded.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
