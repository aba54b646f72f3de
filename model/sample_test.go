package model

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// sampleLogits are those of six tokens; token 4 is the likeliest.
var sampleLogits = []float32{-1, 0.5, 0, -3, 1, 0.25}

// exactProbabilities returns what a setting makes of the logits: the tokens sorted, cut by top-k and then by top-p.
func exactProbabilities(logits []float32, c SampleConfig) []float64 {
	order := make([]int, len(logits))
	total := 0.0
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { // by falling logit, then by number
		if logits[a] == logits[b] {
			return a - b
		}
		if logits[a] > logits[b] {
			return -1
		}
		return 1
	})
	if c.TopK > 0 {
		order = order[:min(c.TopK, len(order))]
	}
	p := make([]float64, len(logits))
	for _, token := range order {
		p[token] = math.Exp(float64(logits[token]) / c.Temperature)
		total += p[token]
	}
	cut := c.TopP
	if cut == 0 {
		cut = 1
	}
	sum, kept := 0.0, 0.0
	for _, token := range order {
		if sum >= cut*total {
			p[token] = 0
		}
		sum += p[token]
		kept += p[token]
	}
	for i := range p {
		p[i] /= kept
	}
	return p
}

const draws = 20000

// chiSquare draws tokens and returns Σ (count - expected)²/expected; a token that may not come makes it infinite.
func chiSquare(t *testing.T, c SampleConfig, want []float64) (statistic float64) {
	t.Helper()
	s := newSampler(c)
	counts := make([]float64, len(want))
	for range draws {
		token, err := s.choose(sampleLogits)
		if err != nil {
			t.Fatal(err)
		}
		counts[token]++
	}
	for i, p := range want {
		switch expected := p * draws; {
		case expected > 0:
			statistic += (counts[i] - expected) * (counts[i] - expected) / expected
		case counts[i] > 0:
			return math.Inf(1)
		}
	}
	return statistic
}

// TestSampleFrequencies: 20,000 draws have the exact frequencies by the chi-square test, and not those of a temperature a fifth
// higher. With five degrees of freedom 30 is exceeded once in 70,000.
func TestSampleFrequencies(t *testing.T) {
	const limit = 30
	for name, c := range map[string]SampleConfig{
		"all":             {Temperature: 1, Seed: 1},
		"cold":            {Temperature: 0.5, Seed: 2},
		"hot":             {Temperature: 3, Seed: 3},
		"top-k":           {Temperature: 1, TopK: 3, Seed: 4},
		"top-p":           {Temperature: 1, TopP: 0.8, Seed: 5},
		"top-p and top-k": {Temperature: 0.8, TopP: 0.9, TopK: 4, Seed: 6},
	} {
		want := exactProbabilities(sampleLogits, c)
		if got := chiSquare(t, c, want); !(got < limit) {
			t.Errorf("%s: chi-square %g for probabilities %.3f", name, got, want)
		}
		wrong := c
		wrong.Temperature *= 1.2
		if got := chiSquare(t, c, exactProbabilities(sampleLogits, wrong)); got < limit {
			t.Errorf("%s: chi-square is only %g for another temperature", name, got)
		}
	}
}

// reachable lists the tokens that 2,000 draws return.
func reachable(t *testing.T, logits []float32, c SampleConfig) (tokens []int) {
	t.Helper()
	s := newSampler(c)
	for range 2000 {
		token, err := s.choose(logits)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(tokens, token) {
			tokens = append(tokens, token)
		}
	}
	slices.Sort(tokens)
	return tokens
}

// TestSampleCuts: which tokens may come. The probabilities are 0.4, 0.3, 0.2 and 0.1 of tokens 2, 0, 3 and 1.
func TestSampleCuts(t *testing.T) {
	logOf := func(p float64) float32 { return float32(math.Log(p)) }
	logits := []float32{logOf(0.3), logOf(0.1), logOf(0.4), logOf(0.2)}
	var many []float32 // 0 1 0 1 ...
	for i := range 60 {
		many = append(many, float32(i%2))
	}
	for _, c := range []struct {
		name   string
		logits []float32
		sample SampleConfig
		want   []int
	}{
		{"top-p below the first", logits, SampleConfig{TopP: 0.01}, []int{2}},
		{"top-p just reached by one", logits, SampleConfig{TopP: 0.399}, []int{2}},
		{"top-p just not reached by one", logits, SampleConfig{TopP: 0.401}, []int{0, 2}},
		{"top-p just reached by two", logits, SampleConfig{TopP: 0.699}, []int{0, 2}},
		{"top-p just not reached by two", logits, SampleConfig{TopP: 0.701}, []int{0, 2, 3}},
		{"top-p 1", logits, SampleConfig{TopP: 1}, []int{0, 1, 2, 3}},
		{"nothing cut", logits, SampleConfig{}, []int{0, 1, 2, 3}},
		{"top-k 1", logits, SampleConfig{TopK: 1}, []int{2}},
		{"top-k 3", logits, SampleConfig{TopK: 3}, []int{0, 2, 3}},
		{"top-k of more than there are", logits, SampleConfig{TopK: 9}, []int{0, 1, 2, 3}},
		{"top-p of what top-k leaves", logits, SampleConfig{TopK: 2, TopP: 0.55}, []int{2}}, // 0.4 of 0.7 is 0.571
		{"top-k between equals takes the first", []float32{1, 1, 0, 1}, SampleConfig{TopK: 2}, []int{0, 1}},
		{"top-k between many equals", many, SampleConfig{TopK: 3}, []int{1, 3, 5}},
		{"top-p between equals takes the first", []float32{1, 1, 1, 1}, SampleConfig{TopP: 0.5}, []int{0, 1}},
		{"hopeless tokens", []float32{0, -100, 1, -41.5}, SampleConfig{}, []int{0, 2}},
		{"large logits", []float32{3e38, -3e38, 3e38}, SampleConfig{}, []int{0, 2}},
		{"almost no temperature", logits, SampleConfig{Temperature: 1e-300}, []int{2}},
	} {
		if c.sample.Temperature == 0 {
			c.sample.Temperature = 1
		}
		if got := reachable(t, c.logits, c.sample); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v may come, want %v", c.name, got, c.want)
		}
	}
}

// TestSampleGreedy: temperature 0 takes the largest logit, the first of equals, whatever else is set, and draws nothing.
func TestSampleGreedy(t *testing.T) {
	for _, c := range []struct {
		logits []float32
		want   int
	}{{[]float32{-5}, 0}, {[]float32{-2, -1, -3}, 1}, {[]float32{0, 7, 7, 7}, 1}, {[]float32{7, 7, 1}, 0}, {[]float32{-3e38, 3e38}, 1}} {
		got, err := newSampler(SampleConfig{TopK: 3, TopP: 0.5, Seed: 9}).choose(c.logits)
		if err != nil || got != c.want {
			t.Errorf("%v: token %d (%v), want %d", c.logits, got, err, c.want)
		}
	}
}

// TestSampleNonFinite: no token is chosen from logits of which one is no number.
func TestSampleNonFinite(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for _, temperature := range []float64{0, 1} {
			for at := range 3 {
				logits := []float32{1, 2, 3}
				logits[at] = float32(bad)
				if _, err := newSampler(SampleConfig{Temperature: temperature}).choose(logits); !errors.Is(err, errNonFinite) {
					t.Errorf("%v at temperature %g: %v", logits, temperature, err)
				}
			}
		}
	}
}

// TestSampleValidate: settings that cannot work are refused by name, edges are not.
func TestSampleValidate(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for want, bad := range map[string][]SampleConfig{
		"temperature": {{Temperature: -0.1}, {Temperature: nan}, {Temperature: inf}},
		"top-p":       {{TopP: -0.1}, {TopP: 1.1}, {TopP: nan}, {TopP: inf}},
		"top-k":       {{TopK: -1}},
		"tokens":      {{MaxTokens: -1}},
	} {
		for _, c := range bad {
			if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v, want an error about %s", c, err, want)
			}
		}
	}
	for _, c := range []SampleConfig{{}, {Temperature: 2, TopP: 1, TopK: 1, MaxTokens: 1, Seed: -5, Stop: []int{-1}}, {TopP: 1e-9}} {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
