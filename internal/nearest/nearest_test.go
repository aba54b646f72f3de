package nearest

import (
	"slices"
	"testing"
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"q_proj", "q_proj", 0}, {"qproj", "q_proj", 1}, {"kitten", "sitting", 3},
		{"flaw", "lawn", 2}, {"moun", "muon", 1}, {"ab", "ba", 1}, {"ca", "abc", 3},
	} {
		if got := Distance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
		if got := Distance(c.b, c.a); got != c.want {
			t.Errorf("%q to %q: %d, want %d as the other way round", c.b, c.a, got, c.want)
		}
	}
}

func TestWord(t *testing.T) {
	words := []string{"lora-muon", "muon", "factor-muon", "adamw", "sgd", "learning_rate", "rank", "weight_decay"}
	for _, c := range []struct{ name, want string }{
		{"moun", "muon"}, {"adam", "adamw"}, {"lora_muon", "lora-muon"}, {"loramuon", "lora-muon"}, {"factor", "factor-muon"},
		{"shampoo", ""}, {"", ""}, {"sg", "sgd"}, {"adamw", "adamw"},
		{"learnign_rate", "learning_rate"}, {"rnak", "rank"}, {"weight", "weight_decay"}, {"lora-muno", "lora-muon"}, {"xyz", ""},
	} {
		if got := Word(c.name, words); got != c.want {
			t.Errorf("%q: got %q, want %q", c.name, got, c.want)
		}
	}
	if got := Word("muon", nil); got != "" {
		t.Errorf("no words: got %q", got)
	}
}

func TestWords(t *testing.T) {
	words := []string{"v_proj", "o_proj", "q_proj", "lm_head"}
	if got, want := Words("q_pro", words, 2), []string{"q_proj", "v_proj"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := Words("x", words, 9); len(got) != len(words) {
		t.Errorf("asked for more than there are: got %v", got)
	}
	if words[0] != "v_proj" {
		t.Error("the words were reordered in place")
	}
}
