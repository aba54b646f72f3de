package tokenizer

import (
	"fmt"
	"slices"
	"strings"
)

// assistantRole marks the turns a model is to learn.
const assistantRole = "assistant"

// EncodeChat renders a conversation and encodes it; completion[i] says that ids[i] belongs to an assistant's turn: its content up to
// and including the token that ends the turn (what follows that token, such as a newline, does not count).
//
// The template must only append: the rendering of the first messages, with the generation prompt where an assistant's turn follows,
// must begin the rendering of the whole. Where it does not (a template that drops or rewrites earlier turns) the error says at which
// message. Tokens that the template writes are not added again: no second beginning-of-sequence token. Byte-level tokenizers encode
// prompt and completion apart, as in a generation from that prompt; for others, whose first piece depends on what precedes it, the
// whole is encoded at once and a token across the border counts as prompt.
func EncodeChat(t Tokenizer, c *ChatTemplate, messages []Message) (ids []int, completion []bool, err error) {
	full, parts, err := chatParts(c, messages)
	if err != nil {
		return nil, nil, err
	}
	if separable(t) {
		ids, completion, err = encodeApart(t, full, parts)
	} else {
		ids, completion, err = encodeWhole(t, full, parts)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("chat: %w", err)
	}
	return ids, completion, nil
}

// separable tells whether the encoding of a text does not depend on being at the beginning.
func separable(t Tokenizer) bool {
	switch t := t.(type) {
	case *Char:
		return true
	case *huggingFace:
		return t.byteLevel
	}
	return false
}

// chatPart is a stretch of the rendered text that ends at end.
type chatPart struct {
	end        int
	completion bool
}

func encodeApart(t Tokenizer, full string, parts []chatPart) (ids []int, completion []bool, err error) {
	at := 0
	for _, p := range parts {
		encoded, err := t.Encode(full[at:p.end], false)
		if err != nil {
			return nil, nil, err
		}
		ids = append(ids, encoded...)
		for range encoded {
			completion = append(completion, p.completion)
		}
		if p.completion {
			endTurn(t, encoded, completion[len(completion)-len(encoded):])
		}
		at = p.end
	}
	return ids, completion, nil
}

func encodeWhole(t Tokenizer, full string, parts []chatPart) (ids []int, completion []bool, err error) {
	if ids, err = t.Encode(full, false); err != nil {
		return nil, nil, err
	}
	completion = make([]bool, len(ids))
	at := 0
	for _, p := range parts {
		prefix, err := t.Encode(full[:p.end], false)
		if err != nil {
			return nil, nil, err
		}
		same := 0
		for same < min(len(prefix), len(ids)) && prefix[same] == ids[same] {
			same++
		}
		end := max(same, at)
		if !p.completion && same < len(prefix) { // a token lies across the border: it counts as prompt
			end = min(end+1, len(ids))
		}
		for i := at; p.completion && i < end; i++ {
			completion[i] = true
		}
		if p.completion {
			endTurn(t, ids[at:end], completion[at:end])
		}
		at = end
	}
	return ids, completion, nil
}

// endTurn unmarks what follows the last token that ends a turn.
func endTurn(t Tokenizer, ids []int, completion []bool) {
	stops := Stops(t)
	for i := len(ids) - 1; i >= 0; i-- {
		if slices.Contains(stops, ids[i]) {
			for j := i + 1; j < len(ids); j++ {
				completion[j] = false
			}
			return
		}
	}
}

// chatParts renders messages and finds the assistant's stretches.
func chatParts(c *ChatTemplate, messages []Message) (string, []chatPart, error) {
	if len(messages) == 0 {
		return "", nil, fmt.Errorf("chat: there are no messages")
	}
	full, err := c.Render(messages, false)
	if err != nil {
		return "", nil, err
	}
	var parts []chatPart
	for i, m := range messages {
		if m.Role != assistantRole {
			continue
		}
		start, err := opening(c, messages, i, full)
		if err != nil {
			return "", nil, err
		}
		end := len(full)
		if i+1 < len(messages) {
			if end, err = closing(c, messages, i, full, start); err != nil {
				return "", nil, err
			}
		}
		parts = append(parts, chatPart{start, false}, chatPart{end, true})
	}
	return full, append(parts, chatPart{len(full), false}), nil
}

// opening is where the assistant's message i begins, after what a generation is prompted with.
func opening(c *ChatTemplate, messages []Message, i int, full string) (int, error) {
	content := strings.TrimSpace(messages[i].Content)
	if i == 0 { // templates need not render zero messages: the content itself is the only sure mark
		if at := strings.Index(full, content); at >= 0 {
			return at, nil
		}
		return 0, inconsistent(i)
	}
	for _, prompted := range []bool{true, false} {
		before, err := c.Render(messages[:i], prompted)
		if err != nil {
			return 0, fmt.Errorf("chat: message %d: %w", i+1, err)
		}
		rest, ok := strings.CutPrefix(full, before)
		switch {
		case !ok:
		case prompted:
			return alignAnswer(len(before), rest, content), nil
		default: // the turn opens otherwise than the generation prompt
			if at := strings.Index(rest, content); at >= 0 {
				return len(before) + at, nil
			}
		}
	}
	return 0, inconsistent(i)
}

// alignAnswer leaves to the prompt the line end that some templates (Zephyr) write between the generation prompt and the content.
func alignAnswer(start int, rest, content string) int {
	if strings.HasPrefix(rest, "\n"+content) && content != "" {
		return start + 1
	}
	return start
}

// closing is where the assistant's turn i ends: the end of the conversation rendered up to it.
func closing(c *ChatTemplate, messages []Message, i int, full string, start int) (int, error) {
	upTo, err := c.Render(messages[:i+1], false)
	if err != nil {
		return 0, fmt.Errorf("chat: message %d: %w", i+1, err)
	}
	if strings.HasPrefix(full, upTo) && len(upTo) >= start {
		return len(upTo), nil
	}
	return 0, inconsistent(i)
}

func inconsistent(i int) error {
	return fmt.Errorf("chat: message %d: the template renders the conversation differently once later messages are there, so the "+
		"answer's tokens cannot be told apart; split the conversation after each answer, or train on the whole text", i+1)
}
