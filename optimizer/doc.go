// Package optimizer updates the variables of a GoMLX store: LoRA-Muon, Muon, Shampoo, SOAP, AdamW and the others that Known
// lists, each as a GoMLX optimizer, so that train.Trainer runs them, with or without gradient accumulation.
//
// A variable's role (package param) chooses its rule: low-rank pairs and hidden matrices get the named rule,
// embeddings, heads and vectors an AdamW of their own (Config.Fallback). Variables that share a rule and a shape form a
// Group: their values are stacked along a leading axis, so that one step is a few batched products whatever the number
// of layers. A Rule sees only stacked values, so a new optimizer is one file with a Rule and one registry entry.
//
// Ownership: an Optimizer holds no tensors. All of its state lives in non-trainable float32 variables of the store,
// under "/optimizers/polar/…", and is saved and restored with the store. The learning rates are variables too, so that
// they change without a second compilation; the schedule follows GoMLX's global step, which each update increments.
//
// Concurrency: an Optimizer may be used from several goroutines on different stores; a store is never safe to share.
// Graph-building functions panic with an error value, as GoMLX's do; everything else returns errors.
package optimizer
