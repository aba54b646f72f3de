package adapter

import (
	"fmt"
	"math"
)

// Norm says how large a layer's pair is. All norms are spectral.
type Norm struct {
	Layer         string
	FanOut, FanIn int
	// Delta is ‖ΔW‖ = ‖s(A Bᵀ - A0 B0ᵀ)‖, the change of the weight since the start, exactly zero while the factors are
	// the start's; for weights from scratch ‖A Bᵀ‖.
	Delta float64
	// A and B are ‖A‖ and ‖B‖; Balance is ‖A‖/‖B‖, infinite while B is zero.
	A, B, Balance float64
}

// RMS returns ‖ΔW‖ as an RMS→RMS norm, the unit of the learning rate: sqrt(fan-in/fan-out)·Delta.
func (n Norm) RMS() float64 { return n.Delta * math.Sqrt(float64(n.FanIn)/float64(n.FanOut)) }

// Norms returns the norms of every pair in the model's order, from the factors in float64: ΔW is never formed. Its
// error is float64 rounding relative to s·‖A‖·‖B‖. It returns an error naming the first layer that is not finite.
// Cost: O((m + n) r² + r³) a layer, on all cores.
func (s *Set) Norms() ([]Norm, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	out := make([]Norm, len(s.pairs))
	return out, eachLayer(len(s.pairs), func(i int) (err error) {
		if out[i], err = s.norm(s.pairs[i]); err != nil {
			return fmt.Errorf("norms of layer %s: %w", s.pairs[i].layer.Name, err)
		}
		return nil
	})
}

func (s *Set) norm(p pair) (Norm, error) {
	m, n := p.layer.FanOut, p.layer.FanIn
	out := Norm{Layer: p.layer.Name, FanOut: m, FanIn: n}
	f, err := pairValues(s.store, p, "/adapter")
	if err != nil {
		return out, err
	}
	if out.A, err = factorNorm(widen(f.a, m, p.rank)); err != nil {
		return out, fmt.Errorf("factor A: %w", err)
	}
	if out.B, err = factorNorm(widen(f.b, n, p.rank)); err != nil {
		return out, fmt.Errorf("factor B: %w", err)
	}
	out.Balance = out.A / out.B
	change, rank, err := s.change(p)
	if err != nil {
		return out, err
	}
	if p.moved && unmoved(change.a, p.rank, 1) && unmoved(change.b, p.rank, -1) {
		return out, nil // exactly the start: no rounding left in Delta
	}
	delta, err := productNorm(widen(change.a, m, rank), widen(change.b, n, rank))
	out.Delta = p.scale * delta
	return out, err
}

// change returns factors of (A Bᵀ - A0 B0ᵀ) and their rank: [A, A0] and [B, -B0] where the start was not zero.
func (s *Set) change(p pair) (factors, int, error) {
	f, err := pairValues(s.store, p, "/adapter")
	if err != nil || !p.moved {
		return f, p.rank, err
	}
	f0, err := pairValues(s.store, p, "/adapter0")
	if err != nil {
		return f, 0, err
	}
	return factors{
		a: besides(f.a, f0.a, p.layer.FanOut, 1),
		b: besides(f.b, f0.b, p.layer.FanIn, -1),
	}, 2 * p.rank, nil
}

// unmoved reports whether every row of [x, y] has y = sign·x, each of rank columns.
func unmoved(rows []float32, rank int, sign float32) bool {
	for at := 0; at < len(rows); at += 2 * rank {
		for k := range rank {
			if rows[at+rank+k] != sign*rows[at+k] {
				return false
			}
		}
	}
	return true
}
