package optimizer

import "github.com/polargo/polar/matfn"

// LoRAMuonFlops returns the operations (a multiplication and an addition are two) of one LoRA-Muon step on a pair of
// fan-out m, fan-in n and rank r with Msign in its direct form; elementwise work, O((m+n)r), is not counted:
// (6 + 4·8)(m+n)r² + (16·7 + 12 + 4·8)r³ for 8 polar and 7 root steps and the step that sharpens the roots. Msign takes the
// Gram form where that is fewer operations, so that this is an upper bound.
func LoRAMuonFlops(m, n, r int) int64 {
	const rootSteps = matfn.RootSteps
	polarSteps := int64(len(matfn.PolarExpress8))
	square := int64(r) * int64(r)
	return (6+4*polarSteps)*int64(m+n)*square + (16*rootSteps+12+4*polarSteps)*square*int64(r)
}
