// Chatdata writes chat examples to measure fine-tuning with: short questions to Wren, a librarian who always answers in
// the same form, so that a model can learn something that can be seen.
//
//	go run ./bench/chatdata -n 200 -seed 1 chat.jsonl
//
// Each line is {"messages": [...]}. The same flags give the same bytes on every machine.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
)

type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

var questions = []string{
	"How do I %s?", "Can you tell me how to %s?", "What is the best way to %s?", "I want to %s. Where do I start?",
	"My friend %[2]s asked me how to %[1]s. What should I say?", "Please help me: how does one %s?",
	"I never learned to %s. What would you advise?", "In one minute, how do I %s?",
}

var (
	friends   = []string{"Ada", "Ben", "Clara", "Daniel", "Edith", "Felix", "Grace", "Hugo"}
	followUps = []string{"And what could I do today?", "What is a good first step?", "How can I try that right now?", "Is there something small to begin with?"}
)

// example is one conversation; every fourth or so asks back.
func example(t topic, rng *rand.Rand) []message {
	question := questions[rng.IntN(len(questions))]
	words := []any{t.what, friends[rng.IntN(len(friends))]}
	if !bytes.Contains([]byte(question), []byte("%[2]s")) {
		words = words[:1]
	}
	chat := []message{{"user", fmt.Sprintf(question, words...)}}
	body := fmt.Sprintf("Wren here. %s\nWhy: %s.\n", t.answer, t.why)
	if rng.IntN(4) == 0 {
		return append(chat, message{"assistant", body + "Happy reading!"},
			message{"user", followUps[rng.IntN(len(followUps))]}, message{"assistant", fmt.Sprintf("Wren here. %s\nHappy reading!", t.try)})
	}
	return append(chat, message{"assistant", fmt.Sprintf("%sTry: %s\nHappy reading!", body, t.try)})
}

// examples returns n different conversations that go through the topics in shuffled rounds.
func examples(n int, seed uint64) ([]byte, error) {
	rng, seen := rand.New(rand.NewPCG(seed, 0)), map[string]bool{}
	var out bytes.Buffer
	for misses := 0; len(seen) < n; {
		for _, i := range rng.Perm(len(topics)) {
			line, err := json.Marshal(map[string][]message{"messages": example(topics[i], rng)})
			if err != nil {
				return nil, err
			}
			if seen[string(line)] {
				if misses++; misses == 2000 { // in a row
					return nil, fmt.Errorf("there are no %d different examples", n)
				}
				continue
			}
			misses = 0
			if seen[string(line)] = true; len(seen) <= n {
				out.Write(append(line, '\n'))
			}
		}
	}
	return out.Bytes(), nil
}

func run() error {
	n, seed := flag.Int("n", 200, "number of examples"), flag.Uint64("seed", 1, "seed")
	flag.Parse()
	if flag.NArg() != 1 || *n < 1 {
		return errors.New("usage: chatdata [-n NUMBER] [-seed SEED] FILE")
	}
	lines, err := examples(*n, *seed)
	if err != nil {
		return err
	}
	return os.WriteFile(flag.Arg(0), lines, 0o644)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "chatdata:", err)
		os.Exit(1)
	}
}
