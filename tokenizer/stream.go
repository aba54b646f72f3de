package tokenizer

import (
	"strings"
	"unicode/utf8"
)

// maxHeld is how many tokens a Stream holds back waiting for a character's last byte; a character has at most four.
const maxHeld = 8

// Stream decodes ids one at a time and yields text only on complete characters. One goroutine at a time.
type Stream struct {
	t       Tokenizer
	bytes   []byte // byte-level tokenizers: bytes of an unfinished character
	window  []int  // others: the ids that still influence the text
	emitted int    // ids of window whose text was yielded
}

// NewStream returns an empty stream.
func NewStream(t Tokenizer) *Stream { return &Stream{t: t} }

// Push adds an id and returns the text that became certain, often "".
func (s *Stream) Push(id int) string {
	if h, ok := s.t.(*huggingFace); ok && h.byteLevel {
		return s.pushBytes(h, id)
	}
	s.window = append(s.window, id)
	before := s.t.Decode(s.window[:s.emitted])
	now := s.t.Decode(s.window)
	if strings.HasSuffix(now, string(utf8.RuneError)) && len(s.window)-s.emitted < maxHeld {
		return ""
	}
	text := suffixFrom(now, before)
	s.window = append([]int{}, s.window[s.emitted:]...)
	s.emitted = len(s.window)
	return text
}

func (s *Stream) pushBytes(h *huggingFace, id int) string {
	s.bytes = fromByteLevel(s.bytes, h.Token(id))
	done := len(s.bytes) - incompleteTail(s.bytes)
	text := lossy(s.bytes[:done])
	s.bytes = append([]byte{}, s.bytes[done:]...)
	return text
}

// Flush returns what is held back (U+FFFD for a broken character) and empties the stream.
func (s *Stream) Flush() string {
	text := lossy(s.bytes)
	if len(s.window) > s.emitted {
		text += suffixFrom(s.t.Decode(s.window), s.t.Decode(s.window[:s.emitted]))
	}
	s.bytes, s.window, s.emitted = nil, nil, 0
	return text
}

// suffixFrom is what now has beyond before.
func suffixFrom(now, before string) string {
	if rest, ok := strings.CutPrefix(now, before); ok {
		return rest
	}
	if len(now) > len(before) {
		return now[len(before):]
	}
	return ""
}
