"""Damaged and hostile files: does each end in one clear sentence?"""
