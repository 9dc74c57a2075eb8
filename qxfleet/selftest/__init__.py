"""Battery tests for the whole fleet: who may be tested when, in waves, with a verdict each."""
