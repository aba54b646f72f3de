package optimizer

import (
	. "github.com/gomlx/gomlx/core/graph"
	"github.com/polargo/polar/param"
)

var loraRITEEntry = entry{
	name:    "lora-rite",
	summary: "low-rank pairs: second moments in polar coordinates, carried along as the basis turns (LoRA-RITE)",
	uses:    uses{beta2: true, beta2Sum: true},
	msign:   true,
	// Twice lora-muon's rate: an average of directions is shorter than the direction of an average.
	defaults: Config{LearningRate: 0.2, WeightDecay: 0.01, Momentum: 0.9, Beta2: 0.999, Scale: "rms", Guard: true, LoRAPlusRatio: 1,
		Fallback: defaultFallback},
	route: func(cfg Config, spec param.Spec) (assignment, bool) {
		return routePairs(cfg, spec, loraRITERule{newPairRule(cfg), cfg.Beta2})
	},
}

// loraRITERule is LoRA-RITE on stacked pairs: AdaGrad or Adam with full r x r second moments, in coordinates that do not depend
// on how the product is spread over the factors. With A = U_A R_A and B = U_B R_B, R = (XᵀX)^{1/2}, for the factor A:
//
//	ḡ = ∇_A R_B^{-1}                        the unmagnified gradient, s·∇_W U_B
//	P = U_Bᵀ U_B'                           from the basis U_B' of the step before to the present one
//	V ← P V Pᵀ + ḡᵀḡ                        second moment, in the present basis
//	ρ ← ρ + λ_max((I - PᵀP) V)              mass that has left the span of the basis; V as it was before
//	S = ḡ (V + ρI)^{-1/2}
//	M ← beta M Pᵀ + (1 - beta) S            first moment, without a bias correction
//	A ← k A - eta/(s·k) M R_B^{-T},         k = sqrt(1 - lambda·eta)
//
// and B likewise. The step is covariant, ΔA → ΔA G and ΔB → ΔB G^{-T} for (A, B) → (A G, B G^{-T}), so that W's path does not
// depend on the gauge (TestLoRARITEGauge); dividing by s makes eta a step in W. In the first step S = msign(ḡ).
//
// Our reading, where the paper and its authors' code leave a choice: V and ρ are moving averages, V ← beta2 P V Pᵀ + (1 - beta2)
// ḡᵀḡ and ρ ← beta2 (ρ + …), both over 1 - beta2ᵗ, as in the authors' code; Beta2 = 1 gives the sums of the paper's algorithm, written
// above. The paper adds the largest difference between an eigenvalue of V and that of P V Pᵀ in the same place, the escaped mass;
// λ_max((I - PᵀP)V) bounds it from above (Weyl, for V^{1/2}(I - PᵀP)V^{1/2}; equal for rank 1, TestEscapedMass) and takes products only: the
// Schatten 16-norm, within r^{1/16}, and for exact steps within 1e-6. There is no epsilon: the ridge of InvSqrt is relative. A
// basis that was zero, as all are before the first step, has nothing to carry: P = 0.
// The guard of lora-muon applies, to the norms that M really has.
// Cost a pair: 16(m+n) r² operations for Gram matrices, coordinates, bases and second moments, and four roots.
// Ref: Yen et al. 2024, arXiv 2410.20625, algorithm 1.
type loraRITERule struct {
	pairRule
	beta2 float64
}

func (loraRITERule) Name() string      { return "lora-rite" }
func (loraRITERule) Directional() bool { return false }

func (loraRITERule) State(dims [][]int) []Slot {
	k, r := dims[0][0], dims[0][2]
	small, number := []int{k, r, r}, []int{k, 1}
	return append(pairMoments(dims), []Slot{
		{"vA", 0, small}, {"vB", 1, small}, {"uA", 0, dims[0]}, {"uB", 1, dims[1]}, {"rhoA", 0, number}, {"rhoB", 1, number},
	}...)
}

// Flops counts products: two Gram matrices and the coordinates, bases, transports, second moments and steps of two factors
// at 2 r² a row each, four roots, and ten products of small matrices a factor.
func (rule loraRITERule) Flops(dims [][]int) int64 {
	k, rows, r := int64(dims[0][0]), int64(dims[0][1]+dims[1][1]), int64(dims[0][2])
	passes := int64(8)
	if rule.guard {
		passes++ // the norms of M
	}
	return k * (2*passes*rows*r*r + 4*rootFlops(int(r)) + 2*2*10*r*r*r)
}

// polarSide is one factor's half of a step, in wide form.
type polarSide struct {
	moment *Node // Mᵀ [k, r, m]
	root   *Node // R^{-1} of the other factor [k, r, r]
}

func (r loraRITERule) Update(s *Step, values, grads []*Node) []*Node {
	a, b := values[0], values[1]
	rootA, rootB := s.inverseRoots(a, b)
	basisA, turnB := s.turn("uA", rootA, a) // the basis of A's columns is the one that B's moments live in
	basisB, turnA := s.turn("uB", rootB, b)
	s.SetState("uA", basisA)
	s.SetState("uB", basisB)
	sideA := polarSide{r.moment(s, "A", timesTransposed(rootB, grads[0]), turnA), rootB}
	sideB := polarSide{r.moment(s, "B", timesTransposed(rootA, grads[1]), turnB), rootA}

	eta, k := r.lengths(s)
	length := Div(eta, k)
	lengthA := r.guarded(length, func() *Node {
		norms := Mul(rowNorm(sideA.moment), rowNorm(sideB.moment))
		return Mul(Mul(eta, norms), productBound(rootA, rootB))
	})
	return []*Node{
		advance(a, k, times(Mul(sideA.root, lengthA), sideA.moment)),
		advance(b, k, times(Mul(sideB.root, length), sideB.moment)),
	}
}

// turn returns the basis U = x·root [k, m, r] of the columns of x and P = Uᵀ U' [k, r, r] with U' from the state called name.
func (s *Step) turn(name string, root, x *Node) (basis, turn *Node) {
	wide := timesTransposed(root, x)
	return Transpose(wide, 1, 2), timesTransposed(wide, Transpose(s.State(name), 1, 2))
}

// moment updates the moments of one side from ḡᵀ [k, r, m] and P, and returns Mᵀ.
func (r loraRITERule) moment(s *Step, side string, gradient, turn *Node) *Node {
	old := s.State("v" + side)
	v := symmetrised(times(times(turn, old), Transpose(turn, 1, 2)))
	rho := Add(ExpandAxes(s.State("rho"+side), -1), s.escapedMass(turn, old)) // [k, 1, 1]
	square := timesTransposed(gradient, gradient)
	correction := OnesLike(s.Count)
	if r.beta2 < 1 {
		v, square = MulScalar(v, r.beta2), MulScalar(square, 1-r.beta2)
		rho = MulScalar(rho, r.beta2)
		correction = Sqrt(oneMinusPower(r.beta2, s.Count))
	}
	v = Add(v, square)
	s.SetState("v"+side, v)
	s.SetState("rho"+side, Squeeze(rho, -1))
	root := s.InvSqrt(Add(v, Mul(identities(v), rho)))
	direction := Mul(times(root, gradient), correction) // what V and ρ lack of an average
	m := Add(MulScalar(times(turn, Transpose(s.State("m"+side), 1, 2)), r.beta), MulScalar(direction, 1-r.beta))
	s.SetState("m"+side, Transpose(m, 1, 2))
	return m
}

// escapedMass returns λ_max((I - PᵀP)V) [k, 1, 1] of P [k, r, r], of norm at most one, and V positive semidefinite. (I - PᵀP)V
// is similar to a semidefinite matrix, so that the trace of its 2ᵏ-th power is a sum of powers of its eigenvalues.
func (s *Step) escapedMass(turn, v *Node) *Node {
	squarings := 4
	if s.exact {
		squarings = 20
	}
	turned := Transpose(turn, 1, 2)
	lost := Sub(identities(v), timesTransposed(turned, turned))
	x, bound := byLargest(times(lost, v))
	for i := range squarings {
		var largest *Node
		x, largest = byLargest(times(x, x))
		bound = Mul(bound, PowScalar(orOne(largest), 1/float64(int(2)<<i)))
	}
	trace := ReduceAndKeep(Mul(x, identities(x)), ReduceSum, 1, 2)
	trace = Max(trace, ZerosLike(trace))
	return Where(Equal(trace, ZerosLike(trace)), trace, Mul(bound, PowScalar(orOne(trace), 1/float64(int(1)<<squarings))))
}

// rowNorm returns an upper bound of ‖x‖ [k, 1, 1] for wide x [k, r, m].
func rowNorm(x *Node) *Node { return Sqrt(schattenNorm(timesTransposed(x, x), 2)) }
