package codec

import "testing"

// TestTiers repeats the tests of kernels as on processors with fewer features.
func TestTiers(t *testing.T) {
	avx2, bmi2, avx512 := hasAVX2, hasBMI2, hasAVX512
	defer func() { hasAVX2, hasBMI2, hasAVX512 = avx2, bmi2, avx512 }()
	t.Logf("this processor: AVX2 %v, BMI2 %v, AVX-512 %v", avx2, bmi2, avx512)
	for _, tier := range []struct {
		name       string
		avx2, bmi2 bool
	}{
		{"AVX2", true, true},
		{"none", false, false},
	} {
		if tier.avx2 && !avx2 || tier.bmi2 && !bmi2 {
			continue
		}
		hasAVX2, hasBMI2, hasAVX512 = tier.avx2, tier.bmi2, false
		t.Run(tier.name, func(t *testing.T) {
			t.Run("split", TestSplitKernels)
			t.Run("stream", TestStreamKernels)
			t.Run("four", TestDecodeFour)
			t.Run("field", TestFieldKernels)
			t.Run("others", TestCountOthers)
			t.Run("bytes", TestSameBytes)
			if !raceEnabled {
				t.Run("frames", TestFrameRoundTrip)
			}
		})
	}
}
