// Package manifold descends on sets of matrices that singular values or eigenvalues define: the cone of positive
// semidefinite matrices, the spectrahedron, the spectral ball, the spectral band and the Stiefel manifold.
//
// A step finds the direction D of norm at most one with the smallest <G, D> in the tangent cone of the set at W (Solver),
// and brings W + eta·D back to the set (Set.Retract). The projections onto the tangent cones (TangentPSD and the others, or
// Set.Tangent) are made of matrix products and of matfn's projectors, never of a decomposition.
//
// Every function takes [..., m, n]: the last two axes are the matrix, the others are a batch, handled in the same products.
// A matrix may be tall or wide; products are taken on the smaller side. Inputs are never changed; results have the shape and
// the dtype of the first argument. float16 and bfloat16 are computed in float32; float64 stays float64.
//
// NaN or Inf in a matrix makes all of that matrix NaN. Building a graph panics on misuse (shapes, dtypes, bounds), as in
// GoMLX; call it under an Exec or graphx.Try. Functions are safe to call from several goroutines on different graphs.
//
// Ref: Cesista 2025, "Steepest Descent on Finsler-Structured (Matrix) Manifolds" for tangent projections and PDHG, and "...
// (Matrix) Geometries via Dual Ascent" for Dual, both at leloykun.github.io/ponder; Bernstein 2025, "Modular Manifolds".
package manifold
