"""Learned matchers of two photos, of any library, behind one protocol."""

from recon.matchers.load import load_matcher
from recon.matchers.protocol import FoundMatches, Matcher

__all__ = ["FoundMatches", "Matcher", "load_matcher"]
