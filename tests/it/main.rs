//! All integration tests, in one program.
#![expect(clippy::disallowed_methods, reason = "tests make host trees")]

mod apply;
mod bad_input;
mod bases;
mod claude;
mod collect;
mod consent;
mod containment;
mod decision_file;
mod doctor;
mod editor;
mod faults;
mod feedback;
mod fidelity;
mod field;
mod folding;
mod full_screen;
mod holdings;
mod hostile;
mod interactive;
mod json;
mod layering;
mod lifecycle;
mod limits;
mod long;
mod page;
mod properties;
mod quarantine;
mod reports;
mod review;
mod rounds;
mod run;
mod screen;
mod show;
mod support;
mod terminal;
