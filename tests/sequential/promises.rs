//! Error rates and speeds, counted over seeded simulations.
