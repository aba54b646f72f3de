// Package adapter puts low-rank pairs on the linear layers of a network: y = x·Wᵀ + s·(x·B)·Aᵀ with A [fan-out, r] and
// B [fan-in, r], the dense W frozen and s·A Bᵀ never formed while training.
//
// A Set owns the factors' variables in a GoMLX store: "/adapter/<layer>/A" and ".../B" (trainable, tagged with
// param.Pair) and, where the start A0 B0ᵀ was not zero, "/adapter0/<layer>/A" and ".../B" (frozen). The frozen weight in
// the store is then W_pre - s·A0 B0ᵀ, so that the model starts unchanged; these four variables and the original weights
// are all a checkpoint needs (Attach, then AdjustBase). Layers are plain descriptions (param.Layer); no model is imported.
//
// A Set and its store belong to one goroutine. Work on several layers runs on all cores inside a call and is
// deterministic: the same seed, layers and weights give the same bits whatever the number of cores.
package adapter
