package model

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// SampleConfig says how to choose the next token.
type SampleConfig struct {
	Temperature float64 // divides the logits; 0 takes the likeliest token
	TopP        float64 // sample from the fewest tokens whose probabilities reach this sum; 0 means 1, all
	TopK        int     // sample from this many likeliest tokens; 0 means all
	MaxTokens   int     // most tokens to generate
	Seed        int64
	Stop        []int // tokens that end the text
}

// Validate returns an error for settings that cannot work.
func (c SampleConfig) Validate() error {
	switch {
	case !(c.Temperature >= 0) || math.IsInf(c.Temperature, 0):
		return fmt.Errorf("sample: temperature %g, want 0 or more", c.Temperature)
	case !(c.TopP >= 0 && c.TopP <= 1):
		return fmt.Errorf("sample: top-p %g, want above 0 and at most 1", c.TopP)
	case c.TopK < 0:
		return fmt.Errorf("sample: top-k %d, want 0 or more", c.TopK)
	case c.MaxTokens < 0:
		return fmt.Errorf("sample: %d tokens, want 0 or more", c.MaxTokens)
	}
	return nil
}

// errNonFinite says that the logits are no numbers.
var errNonFinite = errors.New("generate: the model's logits are not finite; its weights or its adapter are damaged or diverged")

// sampler draws tokens. Its draws depend on the seed and on how many were made.
type sampler struct {
	cfg    SampleConfig
	rng    *rand.Rand
	tokens []int // by falling logit
	probs  []float64
}

func newSampler(cfg SampleConfig) *sampler {
	if cfg.TopP == 0 {
		cfg.TopP = 1
	}
	return &sampler{cfg: cfg, rng: rand.New(rand.NewPCG(uint64(cfg.Seed), 0x73616d706c65))}
}

func (s *sampler) stops(token int) bool { return slices.Contains(s.cfg.Stop, token) }

// choose returns the next token. Of equal logits the lowest id comes first.
func (s *sampler) choose(logits []float32) (int, error) {
	best := 0
	for i, x := range logits {
		if x-x != 0 {
			return 0, errNonFinite
		}
		if x > logits[best] {
			best = i
		}
	}
	if s.cfg.Temperature == 0 {
		return best, nil
	}
	total := s.weigh(logits, float64(logits[best]))
	kept := s.nucleus(total)
	sum := 0.0
	for _, p := range s.probs[:kept] {
		sum += p
	}
	draw := s.rng.Float64() * sum
	for i, p := range s.probs[:kept] {
		if draw -= p; draw < 0 {
			return s.tokens[i], nil
		}
	}
	return s.tokens[kept-1], nil // rounding
}

// weigh fills tokens and probs with the candidates by falling probability, unnormalised, and returns the sum over all tokens
// that top-k keeps. Tokens below e^-40 of the best can neither be drawn nor reach into a nucleus and are left out.
func (s *sampler) weigh(logits []float32, best float64) (total float64) {
	s.tokens, s.probs = s.tokens[:0], s.probs[:0]
	for i, x := range logits {
		if (float64(x)-best)/s.cfg.Temperature > -40 {
			s.tokens = append(s.tokens, i)
		}
	}
	slices.SortStableFunc(s.tokens, func(a, b int) int {
		switch {
		case logits[a] > logits[b]:
			return -1
		case logits[a] < logits[b]:
			return 1
		}
		return 0
	})
	if s.cfg.TopK > 0 && s.cfg.TopK < len(s.tokens) {
		s.tokens = s.tokens[:s.cfg.TopK]
	}
	for _, token := range s.tokens {
		p := math.Exp((float64(logits[token]) - best) / s.cfg.Temperature)
		s.probs = append(s.probs, p)
		total += p
	}
	return total
}

// nucleus returns how many candidates top-p keeps: the fewest whose probabilities reach it, at least one.
func (s *sampler) nucleus(total float64) int {
	sum := 0.0
	for i, p := range s.probs {
		if sum += p; sum >= s.cfg.TopP*total {
			return i + 1
		}
	}
	return len(s.probs)
}
