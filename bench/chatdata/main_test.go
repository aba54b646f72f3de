package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// TestExamples wants as many different, well-formed conversations as asked for, the same for a seed.
func TestExamples(t *testing.T) {
	out, err := examples(200, 1)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		var example struct{ Messages []message }
		if err := json.Unmarshal([]byte(line), &example); err != nil {
			t.Fatal(err)
		}
		for i, m := range example.Messages {
			if role := []string{"user", "assistant"}[i%2]; m.Role != role {
				t.Errorf("message %d is the %s's, want the %s's: %s", i, m.Role, role, line)
			}
			if strings.Contains(m.Content, "%!") || strings.Contains(m.Content, "..") {
				t.Errorf("bad text: %s", m.Content)
			}
		}
		if last := example.Messages[len(example.Messages)-1]; len(example.Messages)%2 != 0 || !strings.HasSuffix(last.Content, "Happy reading!") {
			t.Errorf("does not end with an answer: %s", line)
		}
		seen[line] = true
	}
	if len(seen) != 200 {
		t.Errorf("%d different examples, want 200", len(seen))
	}
	again, _ := examples(200, 1)
	other, _ := examples(200, 2)
	if !bytes.Equal(out, again) || bytes.Equal(out, other) {
		t.Error("a seed does not decide the examples")
	}
	if _, err := examples(1_000_000, 1); err == nil {
		t.Error("a million different examples were promised")
	}
}
