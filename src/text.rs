//! Text rules shared by names, ids and templates.
