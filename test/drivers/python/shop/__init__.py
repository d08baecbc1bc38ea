"""A Django application for django_drive.py."""
