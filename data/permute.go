package data

import "math/bits"

// feistelRounds mixes even the smallest domains; four rounds already give a pseudorandom permutation of large ones (Luby and
// Rackoff 1988), eight make the few-bit halves of small data sets uniform enough that TestPermutationUniform passes.
const feistelRounds = 8

// permutation is a seeded bijection of [0, n) in constant memory: a Feistel network over the next power of four, walked along
// its cycle until the value is below n (Black and Rogaway 2002). At most four steps are expected.
type permutation struct {
	n    uint64
	half uint
	keys [feistelRounds]uint64
}

// newPermutation returns the permutation of [0, n) for a seed and an epoch.
func newPermutation(n int64, seed, epoch int64) permutation {
	p := permutation{n: uint64(max(n, 1))}
	p.half = max(1, uint(bits.Len64(p.n-1)+1)/2)
	state := mix(mix(uint64(seed)) ^ uint64(epoch))
	for i := range p.keys {
		state = mix(state)
		p.keys[i] = state
	}
	return p
}

// at is the image of i, 0 <= i < n.
func (p permutation) at(i int64) int64 {
	for v := uint64(i); ; {
		if v = p.step(v); v < p.n {
			return int64(v)
		}
	}
}

func (p permutation) step(v uint64) uint64 {
	mask := uint64(1)<<p.half - 1
	left, right := v>>p.half, v&mask
	for _, key := range p.keys {
		left, right = right, left^(mix(right^key)&mask)
	}
	return left<<p.half | right
}

// mix is the finaliser of SplitMix64 after its increment (Steele, Lea and Flood 2014): a bijection of 64-bit words.
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
